"""One writer connection and the transaction it makes of a batch.

Readings first (the common road, or the other one for what collides), then one statement that logs the
batch and says whether what the connection remembers about rules and alerts still holds, then the
candidates. Nothing counts before COMMIT.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncCursor, errors

from app.db.copying import copy
from app.db.pool import Connection, connect
from app.ingest.band import BandKeeper, Watch
from app.ingest.batch import Batch
from app.ingest.known import STAGED_TABLE, Codes, known, stretches
from app.ingest.shard import Target
from app.ingest.verdict import Code

LIMITS = {"lock_timeout": "10s", "statement_timeout": "20s"}
PATIENCE_SECONDS = 25.0
ATTEMPTS = 5
"""How often a batch is tried that others write, too."""

Part = tuple[Target, Watch, Batch]
"""What is stored at one target, and what is remembered of it."""
Targets = Mapping[int, Target]
"""Where readings go, by the batch's groups; a batch without groups goes to the only one."""


class Link:
    """A connection and what it remembers."""

    def __init__(self, connection: Connection, bands: BandKeeper) -> None:
        self.connection = connection
        self._bands = bands
        self._watches: dict[Target, Watch] = {}

    @classmethod
    async def open(cls, url: str, bands: BandKeeper) -> "Link":
        """Connect. Raises psycopg.Error."""
        connection = await connect(
            url, application="headwater-writer", settings=LIMITS, patience=PATIENCE_SECONDS
        )
        try:
            if not connection.is_pooled:
                await connection.execute(STAGED_TABLE)
        except BaseException:
            await connection.close()
            raise
        return cls(connection, bands)

    async def store_new(self, targets: Targets, batch: Batch) -> Codes | None:
        """Store a batch that is probably all new; None, and nothing is stored, where it is not."""
        try:
            return await self._store(targets, batch, is_looked_up=False)
        except (errors.UniqueViolation, errors.DeadlockDetected):
            return None

    async def _store(self, targets: Targets, batch: Batch, *, is_looked_up: bool) -> Codes:
        """One transaction, whatever the number of targets. Returns after COMMIT.

        Raises UniqueViolation where a reading is stored that has not been looked up, or by another
        transaction meanwhile.
        """
        codes = np.zeros(len(batch), dtype=np.uint8)
        async with self.connection.transaction():
            fresh: list[Part] = []
            for target, part in _parts(targets, batch):  # in order: no deadlocks
                whole = batch if part is None else batch.where(part)
                if is_looked_up:
                    found = await known(self.connection, target, whole)
                    codes[slice(None) if part is None else part] = found
                    whole = whole.where(found == Code.STORED) if found.any() else whole
                if len(whole):
                    fresh.append((target, self._watches.setdefault(target, Watch()), whole))
            await copy(
                self.connection,
                *((target.copy_reading, new.copy_readings()) for target, _, new in fresh),
            )
            await self._log_and_look(fresh)
            await self._judge(fresh)
        return codes

    async def _judge(self, parts: list[Part]) -> None:
        """Hand in what a rule could care about."""
        candidates = []
        for target, watch, batch in parts:
            is_candidate = watch.candidates(
                batch.bands, batch.band, batch.sensor_id, batch.metric_id, batch.value
            )
            if is_candidate.any():
                candidates.append((target, batch.where(is_candidate).copy_candidates()))
        await copy(self.connection, *((target.copy_candidate, data) for target, data in candidates))
        for target, _ in candidates:
            if target.rings:
                await self.connection.execute(target.sql["ring"])

    async def store_colliding(self, targets: Targets, batch: Batch) -> Codes:
        """Store a batch of which something is stored already.

        Whoever stores the same reading at the same time wins, and is seen at the next attempt.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await self._store(targets, batch, is_looked_up=True)
            except (errors.UniqueViolation, errors.DeadlockDetected):
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _log_and_look(self, parts: list[Part]) -> None:
        """Log what is stored; learn what has changed since this connection last asked."""
        if len(parts) > 1:  # one flight for all
            async with self.connection.pipeline():
                answers = [await self._ask(*part) for part in parts]
        else:
            answers = [await self._ask(*part) for part in parts]
        for (target, watch, _), answer in zip(parts, answers, strict=True):
            watch.learn(await answer.fetchall())
            if watch.bands is None:
                cursor = await self.connection.execute(target.sql["bands"])
                watch.bands = self._bands.take(await cursor.fetchall())

    async def _ask(self, target: Target, watch: Watch, batch: Batch) -> AsyncCursor[Any]:
        buckets, versions = watch.question(batch.sensor_id)
        first, last, count = stretches(batch.ts)
        # one row for a shard; where they are not known apart, one for a sensor
        sensor_ids = np.unique(batch.sensor_id) if target.rings else batch.sensor_id[:1]
        return await self.connection.execute(
            target.sql["log_and_watch"],
            {
                "sensor_ids": sensor_ids,
                "first_us": first,
                "last_us": last,
                "reading_count": count,
                "buckets": buckets,
                "versions": versions,
            },
        )


def _parts(targets: Targets, batch: Batch) -> Iterator[tuple[Target, NDArray[np.intp] | None]]:
    """Each target and the positions that go there, None: all."""
    if batch.group is None or (batch.group == batch.group[0]).all():
        yield _target(targets, 0 if batch.group is None else int(batch.group[0])), None
        return
    for number in np.unique(batch.group).tolist():
        yield _target(targets, number), np.flatnonzero(batch.group == number)


def _target(targets: Targets, number: int) -> Target:
    try:
        return targets[number]
    except KeyError:
        raise errors.UndefinedTable(f"shards {number} are not on this node") from None
