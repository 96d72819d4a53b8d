"""Throws away what has no further use: judged candidates, old replies, logs and outbox rows."""

import structlog
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable

from app.db.queries import queries

SQL = queries("jobs")
log = structlog.get_logger()

CANDIDATE_BYTES = 64 * 1024 * 1024


async def tidy(connection: AsyncConnection) -> None:
    """One round. A table that is busy right now is left for the next."""
    for name in ("reply_tidy", "outbox_tidy", "ingest_log_tidy"):
        await connection.execute(SQL[name])
    cursor = await connection.execute(SQL["candidate_size"])
    row = await cursor.fetchone()
    if row is not None and row[0] > CANDIDATE_BYTES:
        try:
            async with connection.transaction():
                await connection.execute("set local lock_timeout = '200ms'")
                await connection.execute(SQL["candidate_truncate"])
        except LockNotAvailable:
            log.info("candidates_busy")
