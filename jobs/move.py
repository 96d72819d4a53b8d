"""Ends moves of shards whose command is gone, so that their readings are taken again."""

import structlog
from psycopg import AsyncConnection

from app.db.queries import queries
from app.migrate.places import is_spread

SQL = queries("cluster")
log = structlog.get_logger()


async def settle_moves(connection: AsyncConnection) -> None:
    """One round; what lies on a node that is away is left for the next."""
    if not await is_spread(connection):
        return
    cursor = await connection.execute(SQL["moves_settle"])
    row = await cursor.fetchone()
    if row is not None and row[0]:
        log.info("moves_settled", count=row[0])
