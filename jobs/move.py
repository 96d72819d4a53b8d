"""Ends moves of shards whose command is gone, and tells workers that were away what changed meanwhile."""

import psycopg
import structlog
from psycopg import AsyncConnection

from app.cluster.away import take_back
from app.db.queries import queries
from app.migrate.places import is_spread

SQL = queries("cluster")
PATIENCE = "60s"
"""For one node: one that hangs must not keep the commands waiting."""
log = structlog.get_logger()


async def settle_moves(connection: AsyncConnection) -> None:
    """One round; what lies on a node that is away is left for the next."""
    if not await is_spread(connection):
        return
    await connection.execute(f"set statement_timeout = '{PATIENCE}'")
    cursor = await connection.execute(SQL["nodes_aside"])
    for (node,) in await cursor.fetchall():
        try:
            if await take_back(connection, node):
                log.info("node_is_back", node=node)
        except psycopg.Error as exc:
            log.warning("node_not_back", node=node, error=" ".join(str(exc).split()))
    cursor = await connection.execute(SQL["moves_settle"])
    row = await cursor.fetchone()
    if row is not None and row[0]:
        log.info("moves_settled", count=row[0])
