"""One PostgreSQL server of a runtime: the only one, the coordinator, or a worker."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import TupleRow

from app.errors import CommandError
from app.local.account import account_for
from app.local.credentials import DATABASE, POSTGRES, SUPERUSER
from app.local.folder import quiet
from app.local.postgres import START_SECONDS, Cluster
from app.local.roles import connect, make_roles

if TYPE_CHECKING:
    from app.local.runtime import Runtime


class Node:
    """The server of that name, running or not."""

    def __init__(self, runtime: "Runtime", name: str) -> None:
        self.runtime = runtime
        self.name = name

    @property
    def cluster(self) -> Cluster:
        """Its files and processes."""
        folder = self.runtime.folder
        home = folder.home(self.name)
        return Cluster(
            home,
            account_for(home / "data"),
            self.runtime.bindir,
            folder.log / f"{self.name}.log",
            name="headwater" if self.name == POSTGRES else f"headwater-{self.name}",
        )

    @property
    def port(self) -> int:
        """Where it listens, or will."""
        return self.runtime.credentials.ports[self.name]

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, if it is alive."""
        return self.cluster.pid

    def url(self, role: str = SUPERUSER, database: str = DATABASE) -> str:
        """libpq URL of a role."""
        return self.runtime.credentials.database_url(role, database, self.name)

    def start(self) -> None:
        """Start this node alone; the other nodes are told if its port had to change."""
        self.runtime.start_node(self)

    def stop(self, *, immediately: bool = False) -> bool:
        """Shut down; whether it was running. `immediately` skips the checkpoint."""
        return self.cluster.stop(immediately=immediately)

    def kill9(self) -> None:
        """Kill the postmaster and every backend at once, as a crash of the machine would."""
        self.cluster.kill9()

    def bring_up(self, fresh: frozenset[str], say: Callable[[str], None] = quiet) -> None:
        """Make what is missing, start, and make the roles; passwords of `fresh` roles are new."""
        cluster = self.cluster
        password = self.runtime.credentials.passwords[SUPERUSER]
        if not cluster.exists:
            say(f"Making a PostgreSQL cluster in {cluster.home} …")
            cluster.create(password)
        elif SUPERUSER in fresh:
            say("The old passwords are gone, setting new ones …")
            cluster.stop()
            cluster.set_password_offline(SUPERUSER, password)
        with self._connection(cluster, say) as connection:
            make_roles(connection, self.runtime.credentials, fresh)

    def _connection(
        self, cluster: Cluster, say: Callable[[str], None]
    ) -> "psycopg.Connection[TupleRow]":
        """Start and connect; again if the server that was there is just dying or recovering."""
        runtime = self.runtime
        deadline = time.monotonic() + START_SECONDS
        while True:
            runtime.on_a_free_port(
                self.name,
                running=cluster.pid is not None,
                start=lambda port: cluster.start(
                    port=port,
                    preload=runtime.preload,
                    settings=runtime.settings,
                    workers=len(runtime.workers),
                ),
                say=say,
            )
            try:
                return connect(self.url(database="postgres"))
            except psycopg.OperationalError as exc:
                reason = str(exc).strip().splitlines()[-1]
                if "password authentication failed" in reason or time.monotonic() > deadline:
                    raise CommandError(
                        f"the local PostgreSQL refuses its own superuser ({reason}): "
                        f"remove {runtime.folder.env}, then `headwater dev up` sets new passwords"
                    ) from None
                time.sleep(0.1)
