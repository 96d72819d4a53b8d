"""Statements in one message, with the binary COPYs of prebuilt bytes among them.

What needs no answer of ours goes together: each answer that is waited for costs a turn of the event loop,
during which the server does nothing for this connection. Results come as the server's text.
"""

from collections.abc import Generator, Sequence
from typing import Any

from psycopg import AsyncConnection, errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

AS_TOLD = {
    "duplicate key value": errors.UniqueViolation,
    "deadlock detected": errors.DeadlockDetected,
}
"""What Citus passes on of a shard's failure under a COPY are its words, without their code."""
PIECE = 256 * 1024
"""Bytes that libpq is given at a time, so that it keeps no second copy of all."""
Part = tuple[str, memoryview]
"""A COPY statement and what goes in."""
DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_IN)


async def send(
    connection: AsyncConnection[Any], statements: str, data: Sequence[memoryview] = ()
) -> list[PGresult]:
    """The results of the statements, of which the COPYs take `data` in order.

    The first that fails ends it. Raises UniqueViolation, DeadlockDetected also where a coordinator tells.
    """
    try:
        async with connection.lock:
            return await connection.wait(_send(connection.pgconn, statements.encode(), data))
    except errors.InternalError_ as exc:
        for words, kind in AS_TOLD.items():
            if (exc.diag.message_primary or "").startswith(words):
                raise kind(str(exc).strip()) from exc
        raise


async def commit(connection: AsyncConnection[Any], question: str) -> PGresult | None:
    """Commit, and ask something in the same message; None: that failed, which undoes nothing."""
    async with connection.lock:
        connection.pgconn.send_query(f"commit; {question}".encode())
        results = await connection.wait(generators.execute(connection.pgconn))
    _check(results[:1])
    answer = results[-1]
    return answer if answer.status == ExecStatus.TUPLES_OK else None


async def copy(connection: AsyncConnection[Any], *parts: Part) -> None:
    """COPY all parts, or none: the first that fails ends the transaction."""
    if not parts:
        return
    await send(connection, "; ".join(statement for statement, _ in parts), [d for _, d in parts])


def rows_of(connection: AsyncConnection[Any], result: PGresult) -> list[tuple[Any, ...]]:
    """A result's rows as Python has them."""
    values = Transformer(connection)
    values.set_pgresult(result)
    return values.load_rows(0, result.ntuples, tuple)


def _send(pgconn: PGconn, statements: bytes, data: Sequence[memoryview]) -> PQGen[list[PGresult]]:
    pgconn.send_query(statements)
    yield from _flush(pgconn)
    results: list[PGresult] = yield from generators.fetch_many(pgconn)
    _check(results)
    for buffer in data:
        for start in range(0, len(buffer), PIECE):
            if start:
                yield from _flush(pgconn)
            while not pgconn.put_copy_data(buffer[start : start + PIECE]):
                yield from _flush(pgconn)
        # the last piece and the end go together: each flush wakes the server up
        while not pgconn.put_copy_end():
            yield from _flush(pgconn)
        yield from _flush(pgconn)
        found = yield from generators.fetch_many(pgconn)
        _check(found)
        results += found
    return results


def _check(results: list[PGresult]) -> None:
    for result in results:
        if result.status not in DONE:
            raise errors.error_from_result(result)


def _flush(pgconn: PGconn) -> Generator[Wait, Ready, None]:
    """Send what libpq holds; take in what the server says meanwhile, or both would wait."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
