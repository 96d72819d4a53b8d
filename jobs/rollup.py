"""Keeps the rollups up to date where the database does not do it by itself."""

from typing import LiteralString, cast

from psycopg import AsyncConnection

from app.db.queries import queries

SQL = queries("jobs")


async def refresh_rollups(connection: AsyncConnection, *, is_scheduled: bool = True) -> None:
    """Run the edition's refresh steps, each outside a transaction.

    Not scheduled: also those that the database's own policies run (only the owner may).
    """
    cursor = await connection.execute(SQL["rollup_refresh_steps"], {"is_scheduled": is_scheduled})
    for (step,) in await cursor.fetchall():
        await connection.execute(cast("LiteralString", step))
