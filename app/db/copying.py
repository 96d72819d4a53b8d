"""Binary COPY of prebuilt bytes."""

from typing import LiteralString

from psycopg import AsyncConnection, errors

TAKEN = "duplicate key value"


async def copy(connection: AsyncConnection, statement: LiteralString, data: memoryview) -> None:
    """One COPY of one prebuilt buffer. Raises UniqueViolation also where a coordinator tells of it."""
    try:
        async with connection.cursor() as cursor, cursor.copy(statement) as stream:
            await stream.write(data)
    except errors.InternalError_ as exc:  # Citus passes on a shard's words without their code
        if not (exc.diag.message_primary or "").startswith(TAKEN):
            raise
        raise errors.UniqueViolation(str(exc).strip()) from exc
