"""Readings of files into telemetry.reading: in the order of its key, big parts, two connections.

Invariants
- A part is one transaction: its readings, the rollups' log, the ledger's rows. Killed at any point,
  the next run goes on with what the ledger lacks; the unique key stands behind it all the same.
- The common road is one COPY; a part of which something is stored already is compared first, and so
  is the next part, until nothing collides any more.
- Chunks are made beforehand (sql/telemetry/make_chunks.sql), else the two connections would wait for
  each other. They work from both ends of time towards the middle and so never share an index page.
- Nothing is put before the alerts' evaluation: old values must not page anybody. `judge` does that.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from psycopg import errors

from app.backfill import ledger
from app.backfill.log import log_part
from app.db.copying import copy
from app.db.pool import Connection, connect_direct
from app.db.queries import queries
from app.errors import CommandError
from app.ingest.batch import COPY_STAGED, Batch
from app.ingest.known import DAY_US, STAGED_TABLE, first_of_each
from app.ingest.shard import ShardMap, Target
from app.ingest.verdict import Code
from app.migrate.places import is_spread, read_places

SQL = queries("import")
HERE = Target()
PART = 200_000
"""Readings of a part, more or less: parts end where days end, unless a day has more than that."""
CHUNKS = 50
"""Chunks made in one transaction at most."""
ATTEMPTS = 5
JUDGE_DAYS = 7

Progress = Callable[[int], None]


@dataclass
class Totals:
    """What became of the readings."""

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    skipped: int = 0
    """Of these, known from the ledger and not compared again."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By field and reason."""
    files: int = 0
    first_us: int | None = None
    last_us: int | None = None
    """Span of what was written."""

    @property
    def readings(self) -> int:
        """All of them."""
        return self.stored + self.duplicate + self.conflict + self.rejected.total()

    def skip(self, known: ledger.Known | ledger.Part) -> None:
        """Stored before: a duplicate now."""
        self.duplicate += known.stored + known.duplicate
        self.conflict += known.conflict
        self.skipped += known.stored + known.duplicate + known.conflict

    def widen(self, ts: NDArray[np.int64]) -> None:
        """These were written."""
        low, high = int(ts.min()), int(ts.max())
        self.first_us = low if self.first_us is None else min(low, self.first_us)
        self.last_us = high if self.last_us is None else max(high, self.last_us)


@dataclass
class Group:
    """Readings of some files that are written together."""

    batch: Batch
    file_no: NDArray[np.int32]
    """Each reading's place in import_file_ids."""
    import_file_ids: list[int]
    newest: Batch
    """The newest reading of each datastream of these files, written or not."""


class Loader:
    """The writers' connections; use as a context manager."""

    def __init__(self, url: str, totals: Totals, progress: Progress, *, connections: int) -> None:
        self._url = url
        self._totals = totals
        self._progress = progress
        self._wanted = connections
        self._stack = AsyncExitStack()
        self.connections: list[Connection] = []
        self._is_colliding = False
        self._places: ShardMap | None = None

    async def __aenter__(self) -> "Loader":
        for _ in range(self._wanted):
            connection = await connect_direct(
                self._url, application="headwater-import", variable="INGEST_DATABASE_URL"
            )
            await self._stack.enter_async_context(connection)
            await connection.execute(STAGED_TABLE)
            # readings and ledger are lost together or not at all; the last commit is awaited
            await connection.execute("set synchronous_commit = off")
            connection.prepare_threshold = None  # plans must see the times to leave out chunks
            self.connections.append(connection)
        if await is_spread(self.connections[0]):
            self._places = ShardMap(await read_places(self.connections[0]))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def load(self, group: Group) -> None:
        """Write a group and note its files as finished."""
        if len(group.batch):
            order = await asyncio.to_thread(key_order, group.batch)
            ts = group.batch.ts[order]
            await self._make_chunks(ts)
            parts = deque(order[part] for part in cut(ts))
            async with asyncio.TaskGroup() as tasks:
                for number, connection in enumerate(self.connections):
                    take = parts.popleft if number % 2 == 0 else parts.pop
                    tasks.create_task(self._work(connection, group, parts, take))
        await self._finish(group)

    async def _make_chunks(self, ts: NDArray[np.int64]) -> None:
        days = (np.unique(ts // DAY_US) * DAY_US).tolist()
        for first in range(0, len(days), CHUNKS):
            await self.connections[0].execute(
                SQL["import_chunks"], {"days_us": days[first : first + CHUNKS]}
            )

    async def _work(
        self,
        connection: Connection,
        group: Group,
        parts: deque[NDArray[np.intp]],
        take: Callable[[], NDArray[np.intp]],
    ) -> None:
        while parts:
            chosen = take()
            batch = await asyncio.to_thread(pick, group.batch, chosen)
            codes = await self._write(connection, group, batch, group.file_no[chosen])
            count = np.bincount(codes, minlength=5)
            self._totals.stored += int(count[Code.STORED])
            self._totals.duplicate += int(count[Code.DUPLICATE])
            self._totals.conflict += int(count[Code.CONFLICT])
            self._totals.widen(batch.ts)
            self._progress(len(batch))

    async def _write(
        self, connection: Connection, group: Group, batch: Batch, file_no: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        for attempt in range(ATTEMPTS):
            road = copy_compared if self._is_colliding else copy_straight
            try:
                async with connection.transaction():
                    codes = await road(connection, HERE, batch)
                    stored = batch.where(codes == Code.STORED) if codes.any() else batch
                    await log_part(connection, stored, self._places)
                    await ledger.note_part(
                        connection,
                        import_file_ids=group.import_file_ids,
                        file_no=file_no,
                        ts=batch.ts,
                        codes=codes,
                    )
            except errors.UniqueViolation:
                self._is_colliding = True
            except (errors.DeadlockDetected, errors.LockNotAvailable):
                await asyncio.sleep(0.1 * attempt)
            else:
                self._is_colliding = bool(codes.any())
                return codes
        raise CommandError(
            "others write the same readings over and over; run the same command again, it goes on"
            " where it stopped"
        )

    async def _finish(self, group: Group) -> None:
        """Latest readings and the ledger in one durable transaction."""
        connection = self.connections[0]
        newest = group.newest
        day = newest.ts // DAY_US
        async with connection.transaction():
            await connection.execute("set local synchronous_commit = on")
            for number in np.unique(day).tolist():
                part = newest.where(day == number)
                await connection.execute(
                    SQL["import_latest"],
                    {
                        "sensor_id": part.sensor_id.tolist(),
                        "metric_id": part.metric_id.tolist(),
                        "us": part.ts.tolist(),
                        "first_us": int(part.ts.min()),
                        "last_us": int(part.ts.max()),
                    },
                )
            await ledger.finish_files(connection, import_file_ids=group.import_file_ids)


async def judge(connection: Connection, *, first_us: int, last_us: int) -> None:
    """Judge the stored readings of the span, week by week, oldest first."""
    step = JUDGE_DAYS * DAY_US
    for start in range(first_us, last_us + 1, step):
        await connection.execute(
            SQL["import_judge"], {"from_us": start, "to_us": min(start + step, last_us + 1)}
        )


async def copy_straight(connection: Connection, target: Target, batch: Batch) -> NDArray[np.uint8]:
    """The common road: all are new. Raises UniqueViolation where one is not."""
    await copy(connection, (target.copy_reading, batch.copy_readings()))
    return np.full(len(batch), Code.STORED, dtype=np.uint8)


async def copy_compared(connection: Connection, target: Target, batch: Batch) -> NDArray[np.uint8]:
    """Look which readings are stored already, all at once, and store the rest.

    Raises UniqueViolation where another transaction stores the same reading meanwhile.
    """
    codes = np.full(len(batch), Code.STORED, dtype=np.uint8)
    await copy(connection, (COPY_STAGED, batch.copy_staged()))
    await connection.execute(SQL["import_analyze"])
    cursor = await connection.execute(
        SQL["import_known"],
        {
            "first_us": int(batch.ts[0]),
            "last_us": int(batch.ts[-1]),
            "sensor_ids": np.unique(batch.sensor_id).tolist(),
        },
        binary=True,
    )
    row = await cursor.fetchone()
    assert row is not None
    codes[row[0]] = Code.DUPLICATE
    codes[row[1]] = Code.CONFLICT
    first = first_of_each(batch)
    again = np.flatnonzero((first != np.arange(len(batch))) & (codes == Code.STORED))
    codes[again] = np.where(  # twice in the files: the first one counts
        batch.value[again] == batch.value[first[again]], Code.DUPLICATE, Code.CONFLICT
    )
    fresh = batch.where(codes == Code.STORED)
    if len(fresh):
        await copy(connection, (target.copy_reading, fresh.copy_readings()))
    return codes


def key_order(batch: Batch) -> NDArray[np.intp]:
    """Positions in the order of the table's key (ts, sensor_id, metric_id), equal ones as they come."""
    key = np.zeros(len(batch), dtype=np.int64)
    bits = 0
    for column in (batch.ts, batch.sensor_id, batch.metric_id):  # one number says all three
        part = column.astype(np.int64) - int(column.min())
        width = int(part.max()).bit_length()
        bits += width
        key = (key << width) | part
    if bits > 63:
        return np.lexsort((batch.metric_id, batch.sensor_id, batch.ts))
    if (key[1:] >= key[:-1]).all():
        return np.arange(len(key))
    # finds what is in order already, as files by series are
    return np.argsort(key, kind="stable")


def cut(ts: NDArray[np.int64]) -> list[slice]:
    """Parts of ascending times; no time stands in two."""
    parts = []
    start = 0
    while start < len(ts):
        end = len(ts)
        if start + PART < end:
            at = int(ts[start + PART])
            end = int(np.searchsorted(ts, at // DAY_US * DAY_US))
            if end - start < PART // 2:  # a day of its own
                end = int(np.searchsorted(ts, at))
            if end <= start:  # a moment of its own
                end = int(np.searchsorted(ts, at, "right"))
        parts.append(slice(start, end))
        start = end
    return parts


def pick(batch: Batch, chosen: NDArray[np.intp]) -> Batch:
    """The readings at these positions, in this order."""
    return Batch(
        batch.sensor_id[chosen], batch.metric_id[chosen], batch.ts[chosen], batch.value[chosen],
        batch.quality[chosen],
    )  # fmt: skip


def newest_of(batch: Batch) -> Batch:
    """The newest reading of each datastream."""
    if not len(batch):
        return batch
    if batch.newest is not None:  # of every part of it
        batch = pick(batch, batch.newest)
    order = np.lexsort((batch.ts, batch.metric_id, batch.sensor_id))
    sensor_id, metric_id = batch.sensor_id[order], batch.metric_id[order]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = (sensor_id[1:] != sensor_id[:-1]) | (metric_id[1:] != metric_id[:-1])
    return pick(batch, order[is_last])
