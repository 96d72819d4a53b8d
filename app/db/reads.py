"""Where reads go: to a streaming replica as far as there is one, else to the primary.

Invariants
- Whatever fails on the replica is asked of the primary before anybody hears of it, and so is what the
  replica does not have (yet). Only a statement that took too long is not tried again.
- A replica that does not answer, or has what the primary wrote only after `max_lag` seconds, is left
  alone until it is back. While the primary can't be asked, its lag counts as what it was.
- After a person's change in this process, reads stay on the primary until the replica has it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import scalar_row

from app.db.pool import Connection, Pool, connect, pool_for
from app.db.queries import queries
from app.errors import NotFound
from app.settings import Settings

SQL = queries("ops")
log = structlog.get_logger()
T = TypeVar("T")

INTERVAL_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
SAMPLES = 3_600

State = Literal["not configured", "connected", "lagging", "disconnected"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the replica is."""

    state: State
    lag_seconds: float | None = None
    """How long ago the primary wrote what the replica does not have yet."""


async def wal_written(connection: AsyncConnection) -> int:
    """How far the primary has written, in bytes."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["wal_written"])
        return int(await cursor.fetchone() or 0)


async def wal_replayed(connection: AsyncConnection) -> int | None:
    """How far a replica is; None: it is none."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["wal_replayed"])
        return await cursor.fetchone()


class Lag:
    """From positions of the primary, and when it was there, to the replica's lag in seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        self.has_all_until = 0.0
        """The replica has what the primary had at this moment."""

    def wrote(self, now: float, position: int) -> None:
        """The primary is so far."""
        self._samples.append((now, position))

    def replayed(self, now: float, position: int | None) -> float:
        """The replica is so far (None: it has everything by itself); its lag."""
        while self._samples and (position is None or self._samples[0][1] <= position):
            self.has_all_until = self._samples.popleft()[0]
        return max(now - self._samples[0][0], 0.0) if self._samples else 0.0


class Reads:
    """The one door for reads that may be a moment old."""

    def __init__(self, settings: Settings, primary: Pool) -> None:
        self._settings = settings
        self._primary = primary
        self._replica: Pool | None = None
        self._lag = Lag()
        self._changed_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.standing = Standing(state="not configured")
        if settings.database_read_url:
            seconds = settings.statement_timeout_seconds
            self.standing = Standing(state="disconnected")
            self._replica = pool_for(
                settings.database_read_url,
                application="headwater-read",
                seconds=seconds,
                size=settings.pool_size,
                settings={"statement_timeout": f"{seconds}s"},
                timeout=2,
            )

    async def start(self) -> None:
        """Open the pool and begin to watch; no server need be there yet."""
        if self._replica is not None:
            await self._replica.open(wait=False)
            settings = self._settings
            watches = (
                self._watch(settings.database_url, self._look_at_primary),
                self._watch(
                    settings.database_read_url,
                    self._look_at_replica,
                    lambda: self._becomes("disconnected"),
                ),
            )
            self._tasks = [asyncio.create_task(one, name="replica") for one in watches]

    async def stop(self) -> None:
        """Stop watching, close the pool."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._replica is not None:
            await self._replica.close()

    def note_change(self) -> None:
        """A person has changed something, and will want to see it."""
        self._changed_at = time.monotonic()

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, is_fresh: bool = False) -> T:
        """What `work` reads; it may be called twice. `is_fresh`: not a moment old."""
        if (
            self._replica is not None
            and not is_fresh
            and self.standing.state == "connected"
            and self._lag.has_all_until >= self._changed_at
        ):
            try:
                async with self._replica.connection() as connection:
                    return await work(connection)
            except NotFound:
                pass  # not yet, perhaps
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.Error as exc:  # perhaps only a conflict with what is replayed
                log.warning("replica_failed", error=str(exc).strip())
                if exc.sqlstate is None:
                    self._becomes("disconnected")
        async with self._primary.connection() as connection:
            return await work(connection)

    async def _look_at_primary(self, connection: Connection) -> None:
        began = time.monotonic()
        self._lag.wrote(began, await wal_written(connection))

    async def _look_at_replica(self, connection: Connection) -> None:
        lag = self._lag.replayed(time.monotonic(), await wal_replayed(connection))
        is_late = lag > self._settings.database_read_max_lag_seconds
        self._becomes("lagging" if is_late else "connected", round(lag, 1))

    def _becomes(self, state: State, lag_seconds: float | None = None) -> None:
        if state != self.standing.state:
            log.info("replica", state=state, lag_seconds=lag_seconds)
        self.standing = Standing(state=state, lag_seconds=lag_seconds)

    async def _watch(
        self,
        url: str,
        look: Callable[[Connection], Awaitable[None]],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Look every second, on a connection of its own."""
        connection: Connection | None = None
        while True:
            try:
                if connection is None:
                    connection = await connect(
                        url, application="headwater-lag", patience=PATIENCE_SECONDS
                    )
                await look(connection)
            except (psycopg.Error, OSError):
                lost()
                if connection is not None:
                    await connection.close()
                    connection = None
            await asyncio.sleep(INTERVAL_SECONDS)
