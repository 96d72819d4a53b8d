"""A real PgBouncer in transaction mode before the test's database, few sessions for many clients."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_database import ROLES, SUPERUSER, Database

from app.local.account import account_for
from app.local.credentials import free_port

SESSIONS = 2
CONFIGURATION = """
[databases]
{database} = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
admin_users = postgres
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
"""


class Pooler:
    """The running PgBouncer."""

    def __init__(self, database: Database, port: int) -> None:
        self.database = database
        self.port = port

    def url(self, role: str, database: str | None = None) -> str:
        """Through the pooler."""
        password = self.database.server.password
        return (
            f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database or self.database.name}"
        )

    def environment(self) -> dict[str, str]:
        """What an API behind it is given."""
        return {
            "DATABASE_URL": self.url("headwater_app"),
            "INGEST_DATABASE_URL": self.url("headwater_ingest"),
            "SQL_DATABASE_URL": self.url("headwater_sql"),
            "DIRECT_DATABASE_URL": self.database.url("headwater_app"),
        }

    def show(self, what: str) -> list[dict[str, object]]:
        """A table of its console."""
        with psycopg.connect(
            self.url(SUPERUSER, "pgbouncer"), autocommit=True, cursor_factory=psycopg.ClientCursor
        ) as console:
            cursor = console.execute(f"show {what}")
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, line, strict=True)) for line in cursor.fetchall()]


@pytest.fixture
def pooler(database: Database) -> Iterator[Pooler]:
    """PgBouncer before the test's own database."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no pgbouncer here: `deploy/local/packages.sh test` installs it")
    with tempfile.TemporaryDirectory(prefix="headwater-pooler-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = free_port()
        password = database.server.password
        users = "".join(f'"{role}" "{password}"\n' for role in (*ROLES, SUPERUSER))
        (folder / "users.txt").write_text(users)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                database=database.name,
                server_port=database.server.port,
                port=port,
                folder=folder,
                sessions=SESSIONS,
            )
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, configuration],
                stdout=log,
                stderr=log,
                **account_for(folder / "none").popen_arguments(),
            )
        made = Pooler(database, port)
        try:
            wait_for(made, folder / "log")
            yield made
        finally:
            process.kill()
            process.wait()


def wait_for(pooler: Pooler, log: Path) -> None:
    """Until it takes connections."""
    deadline = time.monotonic() + 10
    while True:
        try:
            pooler.show("version")
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return
