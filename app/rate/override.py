"""Limits of one's own for tenants and keys; running APIs learn of a change at once."""

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.db.queries import queries

SQL = queries("rate")


class Override(msgspec.Struct, frozen=True):
    """A row of rate_list."""

    kind: str
    name: str
    readings_per_second: float | None
    burst_readings: float | None


async def rate_list(connection: AsyncConnection) -> list[Override]:
    """All limits that are not the settings'."""
    async with connection.cursor(row_factory=class_row(Override)) as cursor:
        await cursor.execute(SQL["rate_list"])
        return await cursor.fetchall()


async def tenant_rate_set(
    connection: AsyncConnection,
    *,
    slug: str,
    readings_per_second: float | None,
    burst_readings: float | None,
) -> int | None:
    """Give a tenant a limit, or with None take it back; its id, None where there is no such tenant."""
    cursor = await connection.execute(
        SQL["tenant_rate_set"],
        {
            "slug": slug,
            "readings_per_second": readings_per_second,
            "burst_readings": burst_readings,
        },
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def api_key_rate_set(
    connection: AsyncConnection,
    *,
    prefix: str,
    readings_per_second: float | None,
    burst_readings: float | None,
) -> int | None:
    """Give a key a limit, or with None take it back; its id, None where there is no such key."""
    cursor = await connection.execute(
        SQL["api_key_rate_set"],
        {
            "prefix": prefix,
            "readings_per_second": readings_per_second,
            "burst_readings": burst_readings,
        },
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])
