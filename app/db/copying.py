"""Binary COPY of prebuilt bytes."""

from typing import LiteralString

from psycopg import AsyncConnection


async def copy(connection: AsyncConnection, statement: LiteralString, data: memoryview) -> None:
    """One COPY of one prebuilt buffer."""
    async with connection.cursor() as cursor, cursor.copy(statement) as stream:
        await stream.write(data)
