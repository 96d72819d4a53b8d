"""Several COPYs in one flight: all or none, and the connection is good for the next, whatever fails."""

import struct
from collections.abc import AsyncIterator

import psycopg
import pytest
from fix_database import Database

from app.db.copying import Part, commit, copy, rows_of
from app.db.pool import Connection, connect
from app.ingest.batch import HEADER, TRAILER


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """With two temporary tables of unique numbers."""
    async with await connect(database.url(), application="test", patience=20) as made:
        await made.execute("create temporary table one (n bigint unique check (n < 1000000))")
        await made.execute("create temporary table two (n bigint unique)")
        yield made


def one(*numbers: int) -> Part:
    return "copy pg_temp.one from stdin (format binary)", packed(numbers)


def two(*numbers: int) -> Part:
    return "copy pg_temp.two from stdin (format binary)", packed(numbers)


def packed(numbers: tuple[int, ...]) -> memoryview:
    rows = b"".join(struct.pack(">hiq", 1, 8, n) for n in numbers)
    return memoryview(HEADER + rows + TRAILER)


async def counts(connection: Connection) -> tuple[int, int]:
    cursor = await connection.execute(
        "select (select count(*) from pg_temp.one), (select count(*) from pg_temp.two)"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


async def test_all_parts_arrive_and_bigger_ones_than_libpq_is_given_at_once(
    connection: Connection,
) -> None:
    async with connection.transaction():
        await copy(connection, one(*range(100_000)), two(1, 2), two(3))
        await copy(connection)
    assert await counts(connection) == (100_000, 3)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ((one(1), two(7, 7), one(2)), psycopg.errors.UniqueViolation),
        ((one(1, 1), two(7)), psycopg.errors.UniqueViolation),
        ((one(*range(9_000), 2_000_000, *range(9_000, 900_000)), two(7)),
         psycopg.errors.CheckViolation),
        ((one(1), ("copy pg_temp.three from stdin", memoryview(b""))), psycopg.errors.UndefinedTable),
        ((one(1), ("copy pg_temp.two from stdin (format binary)", memoryview(b"no"))),
         psycopg.errors.BadCopyFileFormat),
    ],
    ids=["second", "first", "amid much", "no such table", "no such format"],
)  # fmt: skip
async def test_what_fails_takes_all_along_and_leaves_the_connection_good(
    connection: Connection, parts: tuple[Part, ...], error: type[psycopg.Error]
) -> None:
    with pytest.raises(error):
        async with connection.transaction():
            await copy(connection, *parts)
    assert await counts(connection) == (0, 0)
    async with connection.transaction():
        await copy(connection, one(1), two(1))
    assert await counts(connection) == (1, 1)


async def test_a_question_with_the_commit_is_answered_after_it(connection: Connection) -> None:
    await connection.execute("begin")
    await copy(connection, one(1), two(1))
    answer = await commit(connection, "select n, pg_current_xact_id_if_assigned() from pg_temp.one")
    assert answer is not None
    assert rows_of(connection, answer) == [(1, None)]


@pytest.mark.parametrize("question", ["select 1 / 0", "select pg_temp.nothing()"])
async def test_a_question_that_fails_undoes_no_commit(
    connection: Connection, question: str
) -> None:
    await connection.execute("begin")
    await copy(connection, one(1), two(1))
    assert await commit(connection, question) is None
    assert await counts(connection) == (1, 1)


async def test_a_commit_that_fails_says_so_whatever_was_asked(connection: Connection) -> None:
    await connection.execute("alter table pg_temp.one add unique (n) deferrable initially deferred")
    await connection.execute("alter table pg_temp.one drop constraint one_n_key")
    await connection.execute("begin; insert into pg_temp.one values (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await commit(connection, "select 1")
    assert await counts(connection) == (0, 0)


async def test_a_server_that_goes_away_is_a_lost_connection(
    database: Database, connection: Connection
) -> None:
    other = await connect(database.url(), application="test")
    async with other:
        await other.execute(
            "select pg_terminate_backend(%s::integer)", (connection.info.backend_pid,)
        )
    with pytest.raises(psycopg.OperationalError):
        await copy(connection, one(1), two(1))
    assert connection.closed
