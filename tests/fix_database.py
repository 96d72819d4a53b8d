"""Throw-away PostgreSQL for the whole run, and databases in it by the dozen.

`HEADWATER_PG_BINDIR` chooses the server; Citus is loaded where the server has it. One server, or with
`--distributed` (or HEADWATER_TEST_WORKERS=2) a coordinator with Citus workers: each database is then on
every node under the same name, and cloning it clones what Citus knows of it. Nothing is fsynced. The
servers are killed and deleted at the end, so no test can leave anything behind.
"""

import asyncio
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from app.local import nodes
from app.local.account import account_for
from app.local.credentials import free_port
from app.local.postgres import DEFAULT_BINDIR, Cluster, PortTakenError
from app.migrate import migrate

SUPERUSER = "postgres"
ROLES = (
    "headwater_owner",
    "headwater_app",
    "headwater_ingest",
    "headwater_analyst",
    "headwater_sql",
    "headwater_grafana",
)
BINDIR = Path(os.environ.get("HEADWATER_PG_BINDIR", DEFAULT_BINDIR))
LIBRARIES = BINDIR.parent / "lib"
OFFERS = {
    "citus": ("Citus", LIBRARIES.glob("citus.so")),
    "community": ("TimescaleDB Community", LIBRARIES.glob("timescaledb-tsl-*.so")),
}
MISSING = {marker: name for marker, (name, found) in OFFERS.items() if not any(found)}
WORKERS_WITH_OPTION = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """One server or several."""
    parser.addoption(
        "--distributed",
        action="store_true",
        help=f"run against a coordinator and {WORKERS_WITH_OPTION} Citus workers"
        " (HEADWATER_TEST_WORKERS says how many)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the server can't do, by name and reason."""
    for item in items:
        for marker, name in MISSING.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not in {LIBRARIES}"))


class Node:
    """One running server."""

    def __init__(self, name: str, home: Path, password: str, *, workers: int) -> None:
        self.name = name
        self.password = password
        self.workers_in_all = workers
        self.cluster = Cluster(home, account_for(home / "data"), BINDIR, home / "log")
        self.port = 0

    def start(self) -> None:
        """Start on the port it had, the first time on any."""
        preload = ("timescaledb",) if "citus" in MISSING else nodes.EXTENSIONS
        settings = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "1GB"}
        if self.workers_in_all:
            # shards take long to make; databases come by the dozen, each with its own workers
            settings |= {
                "citus.shard_count": str(2 * self.workers_in_all),
                "shared_buffers": "256MB",
                "max_worker_processes": "128",
            }
        for _ in range(5):
            port = self.port or free_port()
            try:
                self.cluster.start(
                    port=port, preload=preload, settings=settings, workers=self.workers_in_all
                )
            except PortTakenError:
                continue
            self.port = port
            return
        pytest.fail(f"no port for the test's {self.name}")

    def kill9(self) -> None:
        """As a crash of its machine would."""
        self.cluster.kill9()

    def url(self, database: str, role: str = SUPERUSER) -> str:
        """libpq URL; every role has the same password here."""
        return f"postgresql://{role}:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement as superuser, outside of a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            cur = conn.execute(statement)
            return cur.fetchall() if cur.description is not None else []


class Server(Node):
    """The only server, or the coordinator: addresses and databases."""

    def __init__(self, home: Path, password: str, *, workers: int) -> None:
        super().__init__("server", home / "server", password, workers=workers)
        self.numbers = itertools.count(1)
        self.workers = [
            Node(f"worker-{number}", home / f"worker-{number}", password, workers=workers)
            for number in range(1, workers + 1)
        ]
        self.nodes = [self, *self.workers]
        self._threads = ThreadPoolExecutor(len(self.nodes))

    @property
    def is_distributed(self) -> bool:
        """Whether there are workers."""
        return bool(self.workers)

    def make(self) -> None:
        """Create and start every node; each may log in on each."""

        def make(node: Node) -> None:
            node.cluster.home.mkdir(mode=0o755)
            node.cluster.create(self.password)
            node.start()

        list(self._threads.map(make, self.nodes))
        logins = [(node.port, "*", self.password) for node in self.nodes]
        for node in self.nodes:
            node.cluster.write_passfile(logins)

    def stop(self) -> None:
        """End every node."""
        for node in self.nodes:
            node.cluster.stop(immediately=True)
        self._threads.shutdown()

    def everywhere(self, *statements: str) -> None:
        """Statements on every node, in the database `postgres`, at the same time."""

        def run(node: Node) -> None:
            for statement in statements:
                node.execute(statement)

        list(self._threads.map(run, self.nodes))

    def create(self, template: str = "template0") -> str:
        """A new database's name; TimescaleDB's launcher visits template1, which blocks copies."""
        name = f"test_{next(self.numbers)}"
        self.everywhere(f"create database {name} template {template}")
        return name

    def join(self, database: str) -> None:
        """Make one database of those of that name: with Citus, TimescaleDB, and every worker."""
        with ExitStack() as stack:
            coordinator, *workers = (
                stack.enter_context(psycopg.connect(node.url(database), autocommit=True))
                for node in self.nodes
            )
            for connection in (coordinator, *workers):
                nodes.make_extensions(connection)
            nodes.join(coordinator, workers)

    def close(self, database: str) -> None:
        """Make it a template: nobody connects, the extensions' own workers included."""
        self.everywhere(
            f"alter database {database} is_template true allow_connections false",
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            f" where datname = '{database}'",
        )

    def drop(self, database: str) -> None:
        """Gone, whoever is still connected, and whatever a killed node left prepared."""

        def drop(node: Node) -> None:
            try:
                node.execute(f"drop database if exists {database} with (force)")
            except psycopg.errors.ObjectInUse:
                left = f"select gid from pg_prepared_xacts where database = '{database}'"
                for (gid,) in node.execute(left):
                    node.execute(f"rollback prepared '{gid}'", database)
                # the extensions' own workers come back
                node.execute(f"alter database {database} allow_connections false")
                node.execute(f"drop database if exists {database} with (force)")

        list(self._threads.map(drop, self.nodes))


class Database:
    """One database of the cluster."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def url(self, role: str = SUPERUSER) -> str:
        """libpq URL for a role."""
        return self.server.url(self.name, role)

    def urls(self, role: str = SUPERUSER) -> dict[str, str]:
        """Its address on each node, by the node's name."""
        return {node.name: node.url(self.name, role) for node in self.server.nodes}

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """One statement as superuser, outside of a transaction."""
        return self.server.execute(statement, self.name)


@pytest.fixture(scope="session")
def pg_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server or servers, started on first use."""
    with running(workers_wanted(request.config)) as server:
        yield server


def workers_wanted(config: pytest.Config) -> int:
    """How many workers the run's servers have; 0: one server."""
    default = WORKERS_WITH_OPTION if config.getoption("--distributed") else 0
    return int(os.environ.get("HEADWATER_TEST_WORKERS", default))


@contextmanager
def running(workers: int) -> Iterator[Server]:
    """Servers of one's own."""
    if workers and "citus" in MISSING:
        pytest.exit(f"--distributed needs Citus, which is not in {LIBRARIES}", returncode=2)
    home = Path(tempfile.mkdtemp(prefix="headwater-test-"))
    home.chmod(0o755)
    server = Server(home, secrets.token_urlsafe(16), workers=workers)
    try:
        server.make()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def pg_template(pg_server: Server) -> str:
    """A migrated database nobody connects to; cloning it takes a tenth of migrating."""
    return make_template(pg_server)


def make_template(pg_server: Server) -> str:
    """Migrate a database, and give every role its password."""
    name = "headwater_template"
    password = f"password '{pg_server.password}'"
    pg_server.everywhere(f"create database {name}")
    if pg_server.is_distributed:
        pg_server.everywhere(*(f"create role {role} login {password}" for role in ROLES))
        pg_server.join(name)
    asyncio.run(migrate(pg_server.url(name)))
    if not pg_server.is_distributed:
        pg_server.everywhere(*(f"alter role {role} {password}" for role in ROLES))
    pg_server.close(name)
    return name


@pytest.fixture
def make_empty_database(pg_server: Server) -> Iterator[Callable[[], Database]]:
    """Databases without anything of ours in them."""
    made: list[str] = []

    def make() -> Database:
        made.append(pg_server.create())
        return Database(pg_server, made[-1])

    yield make
    for name in made:
        pg_server.drop(name)


@pytest.fixture
def empty_database(make_empty_database: Callable[[], Database]) -> Database:
    """A database without anything of ours in it."""
    return make_empty_database()


@pytest.fixture
def database(pg_server: Server, pg_template: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    name = pg_server.create(pg_template)
    yield Database(pg_server, name)
    pg_server.drop(name)
