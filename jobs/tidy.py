"""Throws away what has no further use: judged candidates, old replies, logs and outbox rows."""

import structlog
from psycopg import AsyncConnection, OperationalError
from psycopg.errors import LockNotAvailable

from app.db.away import node_away
from app.db.moving import is_moving
from app.db.queries import queries

SQL = queries("jobs")
log = structlog.get_logger()

CANDIDATE_BYTES = 64 * 1024 * 1024


async def tidy(connection: AsyncConnection) -> None:
    """One round. A table that is busy, moves, or lies on a node that is away is left for the next."""
    for name in ("reply_tidy", "outbox_tidy", "ingest_log_tidy"):
        try:
            await connection.execute(SQL[name])
        except OperationalError as exc:
            if connection.closed or not (node_away(exc) or is_moving(exc)):
                raise
            log.warning("tidy_incomplete", table=name.removesuffix("_tidy"), error=str(exc).strip())
    cursor = await connection.execute(SQL["candidate_size"])
    row = await cursor.fetchone()
    if row is not None and (row[0] or 0) > CANDIDATE_BYTES:  # unknown while a node is away
        try:
            async with connection.transaction():
                await connection.execute("set local lock_timeout = '200ms'")
                await connection.execute(SQL["candidate_truncate"])
        except LockNotAvailable:
            log.info("candidates_busy")
        except OperationalError as exc:
            if connection.closed or not (node_away(exc) or is_moving(exc)):
                raise
            log.warning("tidy_incomplete", table="candidate", error=str(exc).strip())
