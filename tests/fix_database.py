"""A throw-away PostgreSQL cluster for the whole run, and databases in it by the dozen.

`HEADWATER_PG_BINDIR` chooses the server; Citus is loaded where the server has it. Nothing is
fsynced. The cluster is killed and deleted at the end, so no test can leave anything behind.
"""

import asyncio
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

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


class Server:
    """The running cluster: addresses and databases."""

    def __init__(self, cluster: Cluster, port: int, password: str) -> None:
        self.cluster = cluster
        self.port = port
        self.password = password
        self.numbers = itertools.count(1)

    def url(self, database: str, role: str = SUPERUSER) -> str:
        """libpq URL; every role has the same password here."""
        return f"postgresql://{role}:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement as superuser, outside of a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            cur = conn.execute(statement)
            return cur.fetchall() if cur.description is not None else []

    def create(self, template: str = "template0") -> str:
        """A new database's name; TimescaleDB's launcher visits template1, which blocks copies."""
        name = f"test_{next(self.numbers)}"
        self.execute(f"create database {name} template {template}")
        return name

    def drop(self, database: str) -> None:
        """Gone, whoever is still connected."""
        self.execute(f"drop database if exists {database} with (force)")


class Database:
    """One database of the cluster."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def url(self, role: str = SUPERUSER) -> str:
        """libpq URL for a role."""
        return self.server.url(self.name, role)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """One statement as superuser, outside of a transaction."""
        return self.server.execute(statement, self.name)


@pytest.fixture(scope="session")
def pg_server() -> Iterator[Server]:
    """The cluster, started on first use."""
    home = Path(tempfile.mkdtemp(prefix="headwater-test-"))
    home.chmod(0o755)
    bindir = Path(os.environ.get("HEADWATER_PG_BINDIR", DEFAULT_BINDIR))
    citus = (bindir.parent / "lib" / "citus.so").exists()
    preload = ["citus", "timescaledb"] if citus else ["timescaledb"]
    cluster = Cluster(home, account_for(home / "data"), bindir, home / "log")
    password = secrets.token_urlsafe(16)
    settings = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "1GB"}
    try:
        cluster.create(password)
        for _ in range(5):
            port = free_port()
            try:
                cluster.start(port=port, preload=preload, settings=settings)
                break
            except PortTakenError:
                continue
        else:
            pytest.fail("no port for the test cluster")
        yield Server(cluster, port, password)
    finally:
        cluster.stop(immediately=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def pg_template(pg_server: Server) -> str:
    """A migrated database nobody connects to; cloning it takes a tenth of migrating."""
    name = "headwater_template"
    pg_server.execute(f"create database {name}")
    asyncio.run(migrate(pg_server.url(name)))
    for role in ROLES:
        pg_server.execute(f"alter role {role} password '{pg_server.password}'")
    pg_server.execute(f"alter database {name} is_template true allow_connections false")
    pg_server.execute(
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    )
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
