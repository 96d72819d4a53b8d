"""The local runtime: a private PostgreSQL and Redis in one state folder, `.headwater/` by default.

`start()` makes or starts whatever is missing and is safe to call at any time, by several at once
(a file lock), and after any kill -9. It never touches a system cluster or service. Roles and the
database exist afterwards; everything in the database is the migrations' business.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from app.errors import CommandError
from app.local import credentials as creds
from app.local import processes
from app.local.account import account_for
from app.local.credentials import BINDIR_VARIABLE, OWNER, SUPERUSER, Credentials
from app.local.folder import Folder, quiet
from app.local.postgres import DEFAULT_BINDIR, START_SECONDS, Cluster, PortTakenError
from app.local.redis_server import RedisServer, find_program
from app.local.roles import connect, make_roles
from app.paths import STATE

PRELOAD = ("timescaledb",)
PORT_ATTEMPTS = 5


class Runtime:
    """The servers of one state folder, running or not."""

    def __init__(
        self,
        state: Path = STATE,
        *,
        bindir: Path | None = None,
        preload: Sequence[str] = PRELOAD,
        settings: Mapping[str, str] | None = None,
        with_redis: bool = True,
    ) -> None:
        self.folder = Folder(state)
        self.preload = tuple(preload)
        self.settings = dict(settings or {})
        self.with_redis = with_redis
        self._wanted_bindir = bindir or _path(os.environ.get(BINDIR_VARIABLE))
        self._credentials: Credentials | None = None

    # What clients need

    @property
    def credentials(self) -> Credentials:
        """Ports and passwords; CommandError where the runtime was never started."""
        if self._credentials is None:
            if not self.folder.env.exists():
                raise CommandError("there is no local runtime yet: run `headwater dev up`")
            self._credentials, _ = creds.load(self.folder.env, bindir=str(self.bindir))
        return self._credentials

    @property
    def superuser_url(self) -> str:
        """As `postgres`: what OWNER_DATABASE_URL is here, since migrations make extensions."""
        return self.credentials.database_url(SUPERUSER)

    @property
    def owner_url(self) -> str:
        """As `headwater_owner`, who owns every object and is no superuser."""
        return self.credentials.database_url(OWNER)

    @property
    def app_url(self) -> str:
        """As `headwater_app`."""
        return self.credentials.database_url("headwater_app")

    @property
    def ingest_url(self) -> str:
        """As `headwater_ingest`."""
        return self.credentials.database_url("headwater_ingest")

    @property
    def analyst_url(self) -> str:
        """As `headwater_analyst`."""
        return self.credentials.database_url("headwater_analyst")

    @property
    def grafana_url(self) -> str:
        """As `headwater_grafana`."""
        return self.credentials.database_url("headwater_grafana")

    @property
    def redis_url(self) -> str:
        """Empty for a runtime without Redis."""
        return self.credentials.redis_url if self.with_redis else ""

    def environment(self) -> dict[str, str]:
        """What `.headwater/env` says, for Settings.from_env() or a child process."""
        return self.credentials.environment() | {"REDIS_URL": self.redis_url}

    # What runs

    @property
    def bindir(self) -> Path:
        """Server programs: asked for, else those the cluster was made with, else Debian's."""
        return self._wanted_bindir or self._recorded_bindir or DEFAULT_BINDIR

    @property
    def postgres(self) -> Cluster:
        """The cluster, running or not."""
        home = self.folder.postgres
        account = account_for(home / "data")
        return Cluster(home, account, self.bindir, self.folder.log / "postgres.log")

    @property
    def redis(self) -> RedisServer:
        """The Redis, running or not; it runs as the same user."""
        account = account_for(self.folder.postgres / "data")
        return RedisServer(self.folder.redis, account, self.folder.log / "redis.log")

    @property
    def pg_pid(self) -> int | None:
        """The postmaster's pid, if it is alive."""
        return self.postgres.pid

    @property
    def redis_pid(self) -> int | None:
        """Redis' pid, if it is alive."""
        return self.redis.pid

    def start(self, say: Callable[[str], None] = quiet) -> "Runtime":
        """Make and start whatever is missing; `say` gets a line for each step that takes time."""
        self.folder.make()
        with self.folder.lock(say):
            if self.with_redis and self.redis_pid is None:
                find_program()  # or fail before anything runs
            self._start_postgres(say)
            if self.with_redis:
                self._start_redis(say)
        return self

    def stop(self, *, immediately: bool = False) -> list[str]:
        """Stop registered processes, then the servers; the names of what was running."""
        if not self.folder.path.exists():
            return []
        with self.folder.lock():
            return self._stop(immediately=immediately)

    def restart(self) -> "Runtime":
        """Stop and start; ports stay."""
        self.stop()
        return self.start()

    def kill9_postgres(self) -> None:
        """Kill the postmaster and every backend at once, as a crash of the machine would."""
        self.postgres.kill9()

    def kill9_redis(self) -> None:
        """Kill Redis."""
        self.redis.kill9()

    def destroy(self) -> None:
        """Stop everything and remove the databases, ports and passwords; logs stay."""
        if not self.folder.path.exists():
            return
        with self.folder.lock():
            self._stop(immediately=True)
            self.folder.remove_data()
            self._credentials = None

    # How

    @property
    def _recorded_bindir(self) -> Path | None:
        return _path(creds.read(self.folder.env).get(BINDIR_VARIABLE))

    def _stop(self, *, immediately: bool) -> list[str]:
        stopped = processes.stop_all(run=self.folder.run)
        if self.postgres.stop(immediately=immediately):
            stopped.append("postgres")
        if self.redis.stop():
            stopped.append("redis")
        return stopped

    def _start_postgres(self, say: Callable[[str], None]) -> None:
        self.folder.make_postgres()
        cluster = self.postgres
        recorded = self._recorded_bindir
        if cluster.exists and recorded not in (None, self.bindir):
            raise CommandError(
                f"this database was made with {recorded}, not {self.bindir}: "
                f"unset {BINDIR_VARIABLE}, or start anew with `headwater dev reset`"
            )
        cluster.check_programs(self.preload)
        self._credentials, fresh = creds.load(self.folder.env, bindir=str(self.bindir))
        if cluster.exists and SUPERUSER in fresh:
            say("The old passwords are gone, setting new ones …")
            cluster.stop()
            cluster.set_password_offline(SUPERUSER, self._credentials.passwords[SUPERUSER])
        if cluster.running_port:  # the truth, whatever became of the file
            self._credentials = creds.with_port(
                self._credentials, "postgres_port", cluster.running_port
            )
        creds.save(self.folder.env, self._credentials)
        if not cluster.exists:
            say(f"Making a PostgreSQL cluster in {cluster.home} …")
            cluster.create(self._credentials.passwords[SUPERUSER])
        with self._connection(cluster, say) as connection:
            make_roles(connection, self.credentials, fresh)
        if creds.REDIS in fresh:
            self.redis.stop()

    def _connection(
        self, cluster: Cluster, say: Callable[[str], None]
    ) -> "psycopg.Connection[TupleRow]":
        """Start and connect; again if the server that was there is just dying or recovering."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._on_a_free_port(
                "postgres_port",
                running=cluster.pid is not None,
                start=lambda port: cluster.start(
                    port=port, preload=self.preload, settings=self.settings
                ),
                say=say,
            )
            try:
                return connect(self.credentials)
            except psycopg.OperationalError as exc:
                reason = str(exc).strip().splitlines()[-1]
                if "password authentication failed" in reason or time.monotonic() > deadline:
                    raise CommandError(
                        f"the local PostgreSQL refuses its own superuser ({reason}): "
                        f"remove {self.folder.env}, then `headwater dev up` sets new passwords"
                    ) from None
                time.sleep(0.1)

    def _start_redis(self, say: Callable[[str], None]) -> None:
        server = self.redis
        self._on_a_free_port(
            "redis_port",
            running=server.pid is not None,
            start=lambda port: server.start(port=port, password=self.credentials.redis_password),
            say=say,
        )

    def _on_a_free_port(
        self, name: str, *, running: bool, start: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        """Start on the port that is kept, or on another once somebody else has taken that one."""
        for _ in range(PORT_ATTEMPTS):
            port: int = getattr(self.credentials, name)
            if not running and not creds.is_free(port):
                say(f"Port {port} is taken by somebody else, choosing another …")
                port = creds.free_port()
                self._credentials = creds.with_port(self.credentials, name, port)
                creds.save(self.folder.env, self._credentials)
            with contextlib.suppress(PortTakenError):
                return start(port)
        raise CommandError("others take each port that is chosen: look for a program gone wild")


def start(
    state: Path = STATE,
    *,
    bindir: Path | None = None,
    preload: Sequence[str] = PRELOAD,
    settings: Mapping[str, str] | None = None,
    with_redis: bool = True,
    say: Callable[[str], None] = quiet,
) -> Runtime:
    """Start the runtime of a state folder; `settings` win over the tuned ones."""
    return Runtime(
        state, bindir=bindir, preload=preload, settings=settings, with_redis=with_redis
    ).start(say)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
