"""Keeps the rollups up to date where the database does not do it by itself."""

from typing import LiteralString, cast

import psycopg
from psycopg import AsyncConnection

from app.db.queries import queries

SQL = queries("jobs")


async def refresh_rollups(connection: AsyncConnection, *, is_scheduled: bool = True) -> None:
    """Run the edition's refresh steps, each outside a transaction.

    Not scheduled: also those that the database's own policies run (only the owner may). A step that
    fails does not keep the others from running; what the first one said is raised at the end.
    """
    cursor = await connection.execute(SQL["rollup_refresh_steps"], {"is_scheduled": is_scheduled})
    failure: psycopg.Error | None = None
    for (step,) in await cursor.fetchall():
        try:
            await connection.execute(cast("LiteralString", step))
        except psycopg.Error as exc:
            if connection.closed:
                raise
            failure = failure or exc
    if failure is not None:
        raise failure
