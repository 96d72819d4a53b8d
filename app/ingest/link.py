"""One writer connection and the transaction it makes of a batch.

Readings first (the common road, or the other one for what collides), then one statement that logs the
batch and says whether what the connection remembers about rules and alerts still holds, then the
candidates. Nothing counts before COMMIT.
"""

from collections.abc import Awaitable, Callable
from typing import LiteralString

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection

from app.db.pool import connect
from app.db.queries import queries
from app.ingest.band import BandKeeper, BandTable, Watch
from app.ingest.batch import COPY_CANDIDATE, COPY_READING, COPY_STAGED, Batch
from app.ingest.verdict import Code

SQL = queries("ingest")
DAY_US = 86_400_000_000

Codes = NDArray[np.uint8]
Road = Callable[[AsyncConnection, Batch], Awaitable[Codes]]


class Link:
    """A connection, what it remembers, and `store`."""

    def __init__(self, connection: AsyncConnection, bands: BandKeeper) -> None:
        self.connection = connection
        self._bands = bands
        self._watch = Watch()

    @classmethod
    async def open(cls, url: str, bands: BandKeeper) -> "Link":
        """Connect. Raises psycopg.Error."""
        connection = await connect(url, application="headwater-writer")
        try:
            await connection.execute(
                "select set_config('lock_timeout', '10s', false),"
                " set_config('statement_timeout', '60s', false)"
            )
            await connection.execute(SQL["staged_table"])
        except BaseException:
            await connection.close()
            raise
        return cls(connection, bands)

    async def store(self, batch: Batch, road: Road) -> Codes:
        """One transaction: readings, log, candidates. Returns after COMMIT."""
        async with self.connection.transaction():
            codes = await road(self.connection, batch)
            fresh = batch.where(codes == Code.STORED) if codes.any() else batch
            if len(fresh):
                await self._log_and_look(fresh)
                candidate = self._watch.candidates(
                    fresh.bands, fresh.band, fresh.sensor_id, fresh.metric_id, fresh.value
                )
                if candidate.any():
                    await copy(
                        self.connection, COPY_CANDIDATE, fresh.where(candidate).copy_candidates()
                    )
        return codes

    async def _log_and_look(self, batch: Batch) -> None:
        """Log the batch; learn what has changed since this connection last asked."""
        buckets, versions = self._watch.question(batch.sensor_id)
        first, last, count = stretches(batch.ts)
        cursor = await self.connection.execute(
            SQL["log_and_watch"],
            {
                "first_us": first,
                "last_us": last,
                "reading_count": count,
                "buckets": buckets,
                "versions": versions,
            },
        )
        self._watch.learn(await cursor.fetchall())
        table = self._bands.table
        if table is None or table.version != self._watch.rules_version:
            cursor = await self.connection.execute(SQL["bands"])
            self._bands.table = BandTable(self._watch.rules_version, await cursor.fetchall())


async def copy(connection: AsyncConnection, statement: LiteralString, data: bytes) -> None:
    """One COPY of one prebuilt buffer."""
    async with connection.cursor() as cursor, cursor.copy(statement) as stream:
        await stream.write(data)


async def copy_straight(connection: AsyncConnection, batch: Batch) -> Codes:
    """The common road: all are new. Raises UniqueViolation where one is not."""
    await copy(connection, COPY_READING, batch.copy_readings())
    return np.zeros(len(batch), dtype=np.uint8)


async def copy_staged(connection: AsyncConnection, batch: Batch) -> Codes:
    """The other road: store what is new, compare the rest with what is stored."""
    await copy(connection, COPY_STAGED, batch.copy_staged())
    codes = np.full(len(batch), Code.CONFLICT, dtype=np.uint8)
    cursor = await connection.execute(SQL["staged_store"])
    stored = np.array([row[0] for row in await cursor.fetchall()], dtype=np.int64)
    codes[stored] = Code.STORED
    others = np.flatnonzero(codes != Code.STORED)
    if others.size:
        cursor = await connection.execute(SQL["staged_compare"], {"nos": others.tolist()})
        for number, is_same in await cursor.fetchall():
            if is_same:
                codes[number] = Code.DUPLICATE
    return codes


def stretches(ts: NDArray[np.int64]) -> tuple[list[int], list[int], list[int]]:
    """First and last time (microseconds) and number of readings of each UTC day in a batch."""
    low, high = int(ts.min()), int(ts.max())
    if low // DAY_US == high // DAY_US:  # as good as always
        return [low], [high], [len(ts)]
    days, numbers = np.unique(ts // DAY_US, return_inverse=True)
    first = np.full(len(days), np.iinfo(np.int64).max)
    last = np.full(len(days), np.iinfo(np.int64).min)
    np.minimum.at(first, numbers, ts)
    np.maximum.at(last, numbers, ts)
    return first.tolist(), last.tolist(), np.bincount(numbers, minlength=len(days)).tolist()
