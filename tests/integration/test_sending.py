"""Statements and COPYs in one message: all of it, or the first failure and a connection that goes on."""

from typing import Any

import numpy as np
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from app.db.copying import PIECE, rows_of, send
from app.db.pool import connect
from app.ingest.batch import HEADER, TRAILER

COPY = "copy pg_temp.number (no) from stdin (format binary)"


def numbers(*no: int) -> memoryview:
    """The bytes of a COPY."""
    records = np.zeros(len(no), dtype=[("fields", ">i2"), ("length", ">i4"), ("no", ">i4")])
    records["fields"], records["length"], records["no"] = 1, 4, no
    return memoryview(HEADER + records.tobytes() + TRAILER)


async def test_several_copies_and_answers_in_one_message(database: Any) -> None:
    async with await connect(database.url(), application="test") as connection:
        results = await send(
            connection,
            f"begin; create temporary table number (no integer primary key); {COPY};"
            f" select count(*) from number; {COPY};"
            " select array_agg(n.no order by n.no) from number as n",
            [numbers(1, 2), numbers(3)],
        )
        rows = [rows_of(connection, result) for result in results if result.ntuples]
        assert rows == [[(2,)], [([1, 2, 3],)]]
        await connection.commit()
        assert connection.info.transaction_status == TransactionStatus.IDLE


async def test_more_than_the_socket_takes_at_once(database: Any) -> None:
    async with await connect(database.url(), application="test") as connection:
        await connection.execute("create temporary table number (no integer primary key)")
        data = numbers(*range(1_000_000))
        assert len(data) > 30 * PIECE
        *_, answer = await send(connection, f"{COPY}; select count(*) from number", [data])
        assert rows_of(connection, answer) == [(1_000_000,)]


@pytest.mark.parametrize("n", [2, 1_000_000])
async def test_the_first_failure_ends_it_and_the_connection_goes_on(database: Any, n: int) -> None:
    async with await connect(database.url(), application="test") as connection:
        await connection.execute("create temporary table number (no integer primary key)")
        with pytest.raises(errors.UniqueViolation):
            await send(
                connection,
                f"begin; {COPY}; {COPY}; select 1",
                [numbers(0, 0, *range(n)), numbers(1)],
            )
        assert connection.info.transaction_status == TransactionStatus.INERROR
        await connection.rollback()
        *_, answer = await send(connection, f"{COPY}; select count(*) from number", [numbers(7)])
        assert rows_of(connection, answer) == [(1,)]
