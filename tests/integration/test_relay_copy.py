"""COPY through the relay, either way, and the session after it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fix_database import Server
from fix_relay import Ferry, ferrying, psql, rows
from relay_client import Client

from app.relay import wire

COUNT = "select count(*) from reading"
WRITES = "-c default_transaction_read_only=off"
TABLE = "create temporary table pile (n int, x text)"


@pytest.fixture(scope="module")
def ferry(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ferry]:
    with ferrying(pg_server, pg_template, tmp_path_factory.mktemp("relay")) as made:
        archive = made.world.archive
        archive.all(f'grant temporary on database "{archive.database.name}" to tenant_a')
        yield made


@pytest.fixture
def line(ferry: Ferry) -> Iterator[psycopg.Connection[Any]]:
    """A session with a table of its own."""
    with psycopg.connect(ferry.url, autocommit=True, options=WRITES) as connection:
        connection.execute(TABLE)
        yield connection


def test_copying_in_and_out(line: psycopg.Connection[Any]) -> None:
    whole = line.execute(COUNT).fetchall()
    data = b"".join(b"%d\t%s\n" % (n, b"x" * 1000) for n in range(20_000))
    with line.cursor().copy("copy pile from stdin") as copy:
        for begin in range(0, len(data), 3_000_000):
            copy.write(data[begin : begin + 3_000_000])
    assert line.execute("select count(*), sum(n) from pile").fetchall() == [(20_000, 199_990_000)]
    with line.cursor().copy("copy pile to stdout") as copy:
        assert b"".join(copy) == data
    assert line.execute(COUNT).fetchall() == whole


def test_a_copy_that_fails_leaves_the_session(line: psycopg.Connection[Any]) -> None:
    whole = line.execute(COUNT).fetchall()
    with (
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
        line.cursor().copy("copy pile from stdin") as copy,
    ):
        copy.write(b"no number\tx\n" * 100_000)
    assert line.execute(COUNT).fetchall() == whole
    with pytest.raises(ZeroDivisionError), line.cursor().copy("copy pile from stdin") as copy:
        copy.write(b"1\tx\n")
        raise ZeroDivisionError
    assert line.execute(COUNT).fetchall() == whole
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        line.cursor().copy("copy tenant.sensor from stdin") as copy,
    ):
        copy.write(b"1\n")
    assert line.execute("select count(*) from pile").fetchall() == [(0,)]
    assert line.execute(COUNT).fetchall() == whole


def test_psql_copies_by_a_script(ferry: Ferry) -> None:
    script = f"{TABLE};\ncopy pile from stdin;\n1\ta\n2\tb\n\\.\n{COUNT};\ncopy pile to stdout;\n"
    done = psql(f"{ferry.url} options='{WRITES}'", text=script)
    whole = rows(ferry.url, COUNT)[0][0]
    assert done.stdout.splitlines() == ["CREATE TABLE", "COPY 2", str(whole), "1\ta", "2\tb"]


@pytest.mark.parametrize("is_eager", [False, True])
def test_copying_by_the_extended_protocol(ferry: Ferry, is_eager: bool) -> None:
    """Eager: Sync right behind Execute, as libpq sends it, which the server ignores while it copies."""
    client = Client(ferry.url)
    for text in ("set default_transaction_read_only = off", TABLE):
        client.send((wire.QUERY, f"{text}\0".encode()))
        client.until(wire.READY)
    sync = [(wire.SYNC, b"")]
    client.send(
        (wire.PARSE, wire.parse(b"", b"copy pile from stdin")),
        (wire.BIND, bytes(8)),
        (wire.EXECUTE, wire.execute(b"")),
        *(sync if is_eager else [(wire.FLUSH, b"")]),
    )
    client.until(wire.COPY_IN)
    client.send((wire.COPY_DATA, b"1\ta\n2\tb\n"), (wire.COPY_DONE, b""), *sync)
    kinds = [kind for kind, _ in client.until(wire.READY)]
    assert kinds == [wire.COMPLETE, wire.READY]
    client.send((wire.QUERY, f"{COUNT}\0".encode()))
    found = dict(client.until(wire.READY))
    assert wire.read_row(found[wire.DATA_ROW]) == [str(rows(ferry.url, COUNT)[0][0])]
    client.send((wire.TERMINATE, b""))
