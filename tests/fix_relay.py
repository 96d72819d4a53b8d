"""The relay as a process of its own, and psql and psycopg that connect to it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from fix_cold import ColdWorld, cold_world
from fix_database import Database, Server
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.db.pool import connect
from app.identity.login import make_login
from app.local.credentials import free_port

START_SECONDS = 20.0
ARGUMENTS = [sys.executable, "-c", "from app.cli import main; main()", "relay"]


class Relay:
    """One process, on a port that was free."""

    def __init__(self, environment: Mapping[str, str], port: int, log: Path) -> None:
        self.port = port
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*ARGUMENTS, "--port", str(port)],
                env={**os.environ, **environment, "HEADWATER_STATE": str(log.parent)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while "Relaying on" not in log.read_text():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def url(self, direct: str, **more: str) -> str:
        """A database's address by way of the relay."""
        ours = {"host": "127.0.0.1", "port": str(self.port), "sslmode": "disable"}
        return make_conninfo("", **(conninfo_to_dict(direct) | ours | more))

    def close(self) -> None:
        """End it; it must not have broken before."""
        assert self.process.poll() is None, self.log.read_text()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=10) == 0, self.log.read_text()
        assert not re.search("session_broke|query_broke|Traceback", self.log.read_text()), (
            self.log.read_text()
        )


@contextmanager
def relaying(environment: Mapping[str, str], port: int, log: Path) -> Iterator[Relay]:
    """A relay, ended at the end."""
    relay = Relay(environment, port, log)
    try:
        yield relay
        relay.close()
    finally:
        relay.process.kill()
        relay.process.wait()


def login_of(database: Database, slug: str) -> str:
    """The address of a tenant's own login."""

    async def run() -> str:
        async with await connect(database.url(), application="test") as connection:
            return await make_login(connection, slug, database.url())

    return asyncio.run(run())


def psql(url: str, *words: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    """What psql says to a script or to its arguments."""
    return subprocess.run(
        ["psql", url, "-X", "-At", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """By psycopg."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement, values or None).fetchall()  # type: ignore[call-overload,no-any-return]


class Ferry:
    """An archived world, and the tenant a's way to it by the relay."""

    def __init__(self, world: ColdWorld, url: str) -> None:
        self.world = world
        self.url = url


@contextmanager
def ferrying(server: Server, template: str, folder: Path) -> Iterator[Ferry]:
    """A world of its own, gone at the end."""
    with cold_world(server, template, folder) as world:
        login = login_of(world.archive.database, "a")
        world.archive_now()
        with relaying(world.environment, free_port(), folder / "relay.log") as relay:
            yield Ferry(world, relay.url(login))
