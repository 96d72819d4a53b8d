"""Waits for the database's doorbells (pg_notify) on a connection of its own.

A bell carries nothing; whoever it wakes looks into the tables. After a lost connection every bell is
rung once, because some may have been missed. Those in `polled` are also rung every `interval` seconds:
what they announce may have been written without a bell.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import psycopg
import structlog
from psycopg import sql

from app.db.pool import Connection, connect

log = structlog.get_logger()

PATIENCE_SECONDS = 5.0


class Bell:
    """Calls `handlers[channel]()` for every bell. Handlers must not block."""

    def __init__(
        self,
        url: str,
        handlers: Mapping[str, Callable[[], None]],
        *,
        polled: frozenset[str] = frozenset(),
        interval: float = 5.0,
    ) -> None:
        self._url = url
        self._handlers = handlers
        self._polled = polled
        self._interval = interval
        self._task: asyncio.Task[None] | None = None
        self.is_connected = False

    def start(self) -> None:
        """Begin to listen in the background."""
        self._task = asyncio.create_task(self._run(), name="bell")

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ring(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self._handlers[channel]()

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as exc:
                if self.is_connected:
                    log.warning("bell_lost", error=str(exc).strip())
                self.is_connected = False
                await asyncio.sleep(1.0)

    async def _listen(self) -> None:
        connection = await connect(
            self._url, application="headwater-bell", patience=PATIENCE_SECONDS
        )
        async with connection:
            if connection.is_pooled:
                await self._poll(connection)
            for channel in self._handlers:
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            self.is_connected = True
            self._ring(self._handlers)
            while True:
                async for notify in connection.notifies(timeout=self._interval):
                    handler = self._handlers.get(notify.channel)
                    if handler is not None:
                        handler()
                # also proves that the connection still lives
                await connection.execute("select 1")
                self._ring(self._polled)

    async def _poll(self, connection: Connection) -> None:
        """A pooler passes no bell on."""
        log.warning("bell_behind_a_pooler", remedy="set DIRECT_DATABASE_URL to the server itself")
        while True:
            await connection.execute("select 1")
            self._ring(self._handlers)
            await asyncio.sleep(self._interval)
