"""A streaming replica of the test cluster, which a test may kill, freeze, start again and promote."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from fix_database import MISSING, SUPERUSER, Database, Server

from app.local import nodes
from app.local.credentials import HOST, free_port
from app.local.postgres import Cluster

SETTINGS = {"fsync": "off", "max_standby_streaming_delay": "1s"}


class Replica:
    """A standby of the server; its databases and passwords are the server's."""

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.port = free_port()
        self.cluster = Cluster(home, server.cluster.account, server.cluster.bindir, home / "log")

    def copy(self) -> None:
        """Take a base backup that follows the server."""
        done = self.cluster.account.run(
            self.cluster.bindir / "pg_basebackup",
            f"--pgdata={self.cluster.data}",
            f"--dbname=host={HOST} port={self.server.port} user={SUPERUSER}"
            f" password={self.server.password}",
            "--checkpoint=fast",
            "--write-recovery-conf",
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> "Replica":
        """Start it, and wait until it has what the server has."""
        preload = ("timescaledb",) if "citus" in MISSING else nodes.EXTENSIONS
        self.cluster.start(port=self.port, preload=preload, settings=SETTINGS)
        self.catch_up()
        return self

    def catch_up(self) -> None:
        """Wait until all that is committed now can be read here."""
        ((target,),) = self.server.execute("select pg_current_wal_lsn()")
        deadline = time.monotonic() + 30
        while True:
            found = self.execute(f"select pg_last_wal_replay_lsn() >= '{target}'")
            if found == [(True,)]:
                return
            assert time.monotonic() < deadline, "the replica does not follow"
            time.sleep(0.02)

    def url(self, database: Database, role: str = SUPERUSER) -> str:
        """libpq URL of the database's copy."""
        return f"postgresql://{role}:{self.server.password}@{HOST}:{self.port}/{database.name}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement here as superuser."""
        url = f"postgresql://{SUPERUSER}:{self.server.password}@{HOST}:{self.port}/{database}"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []


def processes_of(cluster: Cluster) -> Iterator[int]:
    """Its server and all of its backends: they work in its data folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").samefile(cluster.data):
                yield int(entry.name)


@contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    """None of the server's processes gets any time: the host answers, the server does not."""
    postmaster = cluster.pid
    assert postmaster
    stopped = [postmaster]
    try:
        os.kill(postmaster, signal.SIGSTOP)  # first, so that no further process is started
        for process in set(processes_of(cluster)) - {postmaster}:
            with suppress(ProcessLookupError):  # a backend that ended meanwhile
                os.kill(process, signal.SIGSTOP)
                stopped.append(process)
        yield
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


@pytest.fixture
def replica(pg_server: Server, pg_template: str) -> Iterator[Replica]:
    """A running replica of the test cluster."""
    if pg_server.is_distributed:
        pytest.skip("a replica of a coordinator is not one of its workers")
    home = Path(tempfile.mkdtemp(prefix="headwater-test-replica-"))
    home.chmod(0o755)
    made = Replica(pg_server, home)
    made.cluster.data.mkdir(mode=0o700)
    account = made.cluster.account
    os.chown(made.cluster.data, account.uid, account.gid)
    try:
        made.copy()
        yield made.start()
    finally:
        made.cluster.stop(immediately=True)
        shutil.rmtree(home, ignore_errors=True)
