"""Signs of life of a command's sessions.

A command that stands still (stopped, or its machine gone without a word) must not keep what its sessions
hold: locks, an open transaction, and with them the fence of a group of shards. So a session's own
server ends it once it has heard nothing for LEASE_SECONDS, and as long as the command lives each of
its sessions says something more often than that.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.db.pool import NETWORK

LEASE_SECONDS = 10
BEAT_SECONDS = 2.5
ENDS = (
    f"idle_session_timeout={LEASE_SECONDS}s",
    f"idle_in_transaction_session_timeout={LEASE_SECONDS}s",
)
"""What makes the server end a session that has gone silent."""


def address(url: str) -> str:
    """The URL, so that a server that is gone without a word is noticed, too."""
    return make_conninfo("", **{**NETWORK, **conninfo_to_dict(url)})


@asynccontextmanager
async def alive(conn: AsyncConnection[Any]) -> AsyncIterator[AsyncConnection[Any]]:
    """The connection, closed at the end, and kept from falling silent until then."""
    async with conn:
        is_over = asyncio.Event()
        beat = asyncio.create_task(_beat(conn, is_over), name="lease")
        try:
            yield conn
        finally:
            is_over.set()
            await asyncio.wait({beat}, timeout=BEAT_SECONDS)  # an answer is on its way, as a rule
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)


async def _beat(conn: AsyncConnection[Any], is_over: asyncio.Event) -> None:
    while not conn.closed:
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS):
                await is_over.wait()
                return
        with suppress(psycopg.Error):  # a transaction that has failed answers all the same
            await conn.execute("select")
