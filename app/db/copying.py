"""Binary COPY of prebuilt bytes, any number of them in one flight.

psycopg's own COPY waits for the server twice for each; here the next one's bytes go as soon as the last
one is confirmed, and nothing is waited for that the socket takes at once.
"""

from collections.abc import Generator
from typing import LiteralString

from psycopg import AsyncConnection, DatabaseError, errors, generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

TAKEN = "duplicate key value"
PIECE = 256 * 1024
"""Bytes that libpq is given at a time, so that it keeps no second copy of all."""

Part = tuple[LiteralString, memoryview]
"""A COPY statement and what goes in."""


async def copy(connection: AsyncConnection, *parts: Part) -> None:
    """COPY all parts, or none: the first that fails ends the transaction.

    Raises UniqueViolation also where a coordinator tells of it.
    """
    if not parts:
        return
    try:
        async with connection.lock:
            await connection.wait(_copy(connection.pgconn, parts, connection.info.encoding))
    except errors.InternalError_ as exc:  # Citus passes on a shard's words without their code
        if not (exc.diag.message_primary or "").startswith(TAKEN):
            raise
        raise errors.UniqueViolation(str(exc).strip()) from exc


def _copy(pgconn: PGconn, parts: tuple[Part, ...], encoding: str) -> PQGen[None]:
    pgconn.send_query("; ".join(statement for statement, _ in parts).encode(encoding))
    yield from _flush(pgconn)
    for _, data in parts:
        yield from _expect(pgconn, ExecStatus.COPY_IN, encoding)
        for start in range(0, len(data), PIECE):
            while not pgconn.put_copy_data(data[start : start + PIECE]):
                yield from _flush(pgconn)
            yield from _flush(pgconn)
        while not pgconn.put_copy_end():
            yield from _flush(pgconn)
        yield from _flush(pgconn)
        yield from _expect(pgconn, ExecStatus.COMMAND_OK, encoding)
    yield from generators.fetch(pgconn)  # nothing more comes


def _expect(pgconn: PGconn, status: ExecStatus, encoding: str) -> PQGen[None]:
    """Take the next result; raise the error that it is, with the connection ready for a rollback."""
    result = yield from generators.fetch(pgconn)
    assert result is not None
    if result.status == status:
        return
    rest: PGresult | None = result
    try:
        while rest is not None:
            rest = yield from generators.fetch(pgconn)
    except DatabaseError:  # it was the server's last word
        pass
    raise errors.error_from_result(result, encoding=encoding)


def _flush(pgconn: PGconn) -> Generator[Wait, Ready, None]:
    """Send what libpq holds; take in what the server says meanwhile, or both would wait."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
