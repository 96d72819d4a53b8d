"""The local runtime: a private PostgreSQL and Redis in one state folder, `.headwater/` by default.

`start()` makes or starts whatever is missing and is safe to call at any time, by several at once
(a file lock), and after any kill -9. It never touches a system cluster or service. Roles and the
database exist afterwards; everything in the database is the migrations' business.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.errors import CommandError
from app.local import credentials as creds
from app.local import processes, workers
from app.local.account import account_for
from app.local.credentials import BINDIR_VARIABLE, OWNER, SUPERUSER, Credentials
from app.local.folder import Folder, quiet
from app.local.node import Node
from app.local.postgres import DEFAULT_BINDIR, Cluster, PortTakenError
from app.local.redis_server import RedisServer, find_program
from app.local.workers import MOST_WORKERS
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
        workers: int | None = None,
    ) -> None:
        self.folder = Folder(state)
        self.settings = dict(settings or {})
        self.with_redis = with_redis
        self._preload = tuple(preload)
        self._wanted_workers = workers
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
    def preload(self) -> tuple[str, ...]:
        """Libraries of each server; Citus has to be the first."""
        is_distributed = bool(self._wanted_workers or self._known_workers)
        return ("citus", *self._preload) if is_distributed else self._preload

    @property
    def bindir(self) -> Path:
        """Server programs: asked for, else those the cluster was made with, else Debian's."""
        return self._wanted_bindir or self._recorded_bindir or DEFAULT_BINDIR

    @property
    def nodes(self) -> list[Node]:
        """The PostgreSQL servers: the only one, or the coordinator and its workers."""
        return [Node(self, creds.POSTGRES), *self.workers]

    @property
    def workers(self) -> list[Node]:
        """The workers, running or not."""
        return [Node(self, name) for name in self._known_workers]

    @property
    def postgres(self) -> Cluster:
        """The cluster of the only node, or of the coordinator."""
        return Node(self, creds.POSTGRES).cluster

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
        self._check_programs()
        self.folder.make()
        with self.folder.lock(say):
            if self.with_redis and self.redis_pid is None:
                find_program()  # or fail before anything runs
            self._start_postgres(say)
            if self.with_redis:
                self._start_redis(say)
        return self

    def start_node(self, node: Node) -> None:
        """Start one node of a runtime that was started before."""
        with self.folder.lock():
            node.bring_up(frozenset())
            self._join()

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
    def _known_workers(self) -> list[str]:
        if self._credentials is not None:
            return self._credentials.workers
        return self._recorded_workers

    @property
    def _recorded_workers(self) -> list[str]:
        names = {*creds.recorded_workers(self.folder.env), *self.folder.workers}
        return sorted(names, key=creds.worker_number)

    @property
    def _recorded_bindir(self) -> Path | None:
        return _path(creds.read(self.folder.env).get(BINDIR_VARIABLE))

    def _stop(self, *, immediately: bool) -> list[str]:
        stopped = processes.stop_all(run=self.folder.run)
        # first who asks, then who answers
        stopped += [node.name for node in self.nodes if node.stop(immediately=immediately)]
        if self.redis.stop():
            stopped.append(creds.REDIS)
        return stopped

    def _check_programs(self) -> None:
        recorded = self._recorded_bindir
        if self.postgres.exists and recorded not in (None, self.bindir):
            raise CommandError(
                f"this database was made with {recorded}, not {self.bindir}: "
                f"unset {BINDIR_VARIABLE}, or start anew with `headwater dev reset`"
            )
        self.postgres.check_programs(self.preload)

    def _start_postgres(self, say: Callable[[str], None]) -> None:
        self._drop_drained(say)
        names = workers.names(
            self._recorded_workers, self._wanted_workers, is_made=self.postgres.exists
        )
        self._credentials, fresh = creds.load(
            self.folder.env, bindir=str(self.bindir), workers=names
        )
        for node in self.nodes:
            self.folder.make_home(node.name)
            port = node.cluster.running_port
            if port:  # the truth, whatever became of the file
                self._credentials = creds.with_port(self._credentials, node.name, port)
        creds.save(self.folder.env, self._credentials)
        workers.write_passfiles(self.nodes, self.credentials)
        for node in self.nodes:
            node.bring_up(fresh, say)
        self._join()
        if creds.REDIS in fresh:
            self.redis.stop()

    def _drop_drained(self, say: Callable[[str], None]) -> None:
        """Remove workers that are there no longer, where fewer were asked for than there are."""
        surplus = len(self._recorded_workers) - (self._wanted_workers or MOST_WORKERS)
        for node in workers.drained(self.nodes)[-surplus:] if surplus > 0 else []:
            say(f"Removing {node.name}, which was drained …")
            node.stop()
            self._credentials = creds.without_worker(self.credentials, node.name)
            creds.save(self.folder.env, self._credentials)
            self.folder.remove_home(node.name)

    def _join(self) -> None:
        workers.write_passfiles(self.nodes, self.credentials)
        workers.join(self.nodes)

    def _start_redis(self, say: Callable[[str], None]) -> None:
        server = self.redis
        self.on_a_free_port(
            creds.REDIS,
            running=server.pid is not None,
            start=lambda port: server.start(port=port, password=self.credentials.redis_password),
            say=say,
        )

    def on_a_free_port(
        self, name: str, *, running: bool, start: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        """Start on the port that is kept, or on another once somebody else has taken that one."""
        for _ in range(PORT_ATTEMPTS):
            port = self.credentials.ports[name]
            if not running and not creds.is_free(port):
                say(f"Port {port} is taken by somebody else, choosing another …")
                port = creds.free_port(avoid=self.credentials.ports.values())
                self._credentials = creds.with_port(self.credentials, name, port)
                creds.save(self.folder.env, self._credentials)
            with contextlib.suppress(PortTakenError):
                return start(port)
        raise CommandError("others take each port that is chosen: look for a program gone wild")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
