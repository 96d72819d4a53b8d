"""Keeps telemetry.latest_reading behind the writers, never in their way.

Written right after the readings' commit by a connection of its own, newest reading per datastream,
in a few transactions. Who asks for some sensors waits for theirs, which come first: a dashboard of one
site does not wait for what the whole fleet has sent. What a dying process leaves behind is repaired from
the ingest log by the next one that starts.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import psycopg
import structlog
from numpy.typing import NDArray
from psycopg import AsyncConnection

from app.db.away import node_away
from app.db.moving import is_elsewhere
from app.db.pool import connect
from app.ingest.batch import Batch, join
from app.ingest.shard import Target

log = structlog.get_logger()

REPAIR_SECONDS = 5.0
"""Pause between attempts while some shards can't be repaired: their node is away, or they move."""
MOVING_SECONDS = 1.0
"""Pause between attempts to write to shards that move."""


PARTS = 8
LEAST_AT_ONCE = 1_000
"""Readings of a transaction, or an eighth of all where that is more; in between come those asked for."""


class Asked(NamedTuple):
    """Somebody waits for what is noted of these sensors; None: of all."""

    sensor_ids: Sequence[int] | None
    is_written: asyncio.Future[None]


class LatestKeeper:
    """One background task; `note` never blocks, `flush` waits for what was noted before."""

    def __init__(
        self,
        url: str,
        targets: Mapping[int, Target],
        *,
        interval: float = 1.0,
        on_stray: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._on_stray = on_stray
        self._targets = targets
        self._is_repair_due = True
        self._interval = interval
        self._noted: list[Batch] = []
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._asked: list[Asked] = []
        self._is_writing = False
        self._is_away = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="latest")

    async def stop(self) -> None:
        """Write what is noted, if the server is there, then stop."""
        if self._task is not None:
            await self.flush(patience=5)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def aim(self, targets: Mapping[int, Target]) -> None:
        """Shards have come or gone; what another process left behind with them is repaired.

        Of those that are gone what is noted goes to `on_stray`.
        """
        self._targets, self._is_repair_due = targets, True
        noted, self._noted = self._noted, []
        for batch in noted:
            self._keep(batch)
        self._wake.set()

    def _keep(self, batch: Batch) -> None:
        """Note again what could not be written, or pass it on."""
        if batch.group is not None:
            is_ours = np.isin(batch.group, list(self._targets))
            if not is_ours.all():
                self._on_stray(batch.where(~is_ours))
                batch = batch.where(is_ours)
        if len(batch):
            self._noted.append(batch)

    def note(self, batch: Batch) -> None:
        """These readings are committed."""
        if len(batch):
            self._noted.append(batch if batch.newest is None else batch.where(batch.newest))
            self._wake.set()

    async def flush(self, sensor_ids: Sequence[int] | None = None, *, patience: float = 2) -> None:
        """Wait until what was noted of these sensors so far is written (None: of all).

        Gives up silently after `patience` seconds; a server that is away is not waited for.
        """
        if self._is_away or not (self._noted or self._is_writing):
            return
        asked = Asked(sensor_ids, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._wake.set()
        self._hurry.set()
        try:
            async with asyncio.timeout(patience):
                await asked.is_written
        except TimeoutError:
            log.warning("latest_behind", batches=len(self._noted))

    async def _run(self) -> None:
        while True:
            try:
                connection = await connect(
                    self._url,
                    application="headwater-latest",
                    settings={"synchronous_commit": "off"},
                )
            except (psycopg.Error, OSError):
                self._is_away = True
                await asyncio.sleep(1.0)
                continue
            self._is_away = False
            try:
                async with connection:
                    self._is_repair_due = True
                    await self._repair(connection)
                    if self._noted:
                        self._wake.set()
                    while True:
                        await self._wake.wait()
                        began = time.monotonic()
                        await self._repair(connection)
                        await self._put(connection)
                        # a fifth of the time at most, however many datastreams there are
                        await self._pause(max(self._interval, 4 * (time.monotonic() - began)))
            except (psycopg.Error, OSError) as exc:
                self._is_away = node_away(exc) is not None
                log.warning("latest_lost_connection", error=str(exc).strip())
                await asyncio.sleep(0.5)

    async def _pause(self, seconds: float) -> None:
        """Let batches gather, unless somebody waits for them."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()

    async def _repair(self, connection: AsyncConnection) -> None:
        if self._is_repair_due:
            self._is_repair_due = False
            for target in list(self._targets.values()):
                try:
                    async with connection.transaction():
                        await connection.execute(target.sql["latest_repair"])
                except psycopg.Error as exc:
                    if connection.closed or not (node_away(exc) or is_elsewhere(exc)):
                        raise
                    log.warning("latest_repair_incomplete", error=str(exc).strip())
                    self._is_repair_due = True
                    asyncio.get_running_loop().call_later(REPAIR_SECONDS, self._wake.set)

    async def _put(self, connection: AsyncConnection) -> None:
        self._wake.clear()
        size = max(LEAST_AT_ONCE, -(-sum(map(len, self._noted)) // PARTS))
        for _ in range(PARTS):
            asked, self._asked = self._asked, []
            try:
                if asked:
                    await self._put_some(connection, partial(_asked_for, asked=asked))
            except BaseException:
                self._asked += asked
                raise
            for one in asked:
                if not one.is_written.done():
                    one.is_written.set_result(None)
            await self._put_some(connection, lambda newest: np.arange(len(newest)) < size)
        if self._noted:
            self._wake.set()

    async def _put_some(
        self, connection: AsyncConnection, choose: Callable[[Batch], NDArray[np.bool_]]
    ) -> None:
        """Write some of what is noted."""
        if not self._noted:
            return
        newest = _newest(join(self._noted))
        chosen = choose(newest)
        if not chosen.any():
            return
        rest, newest = newest.where(~chosen), newest.where(chosen)
        self._noted = [rest] if len(rest) else []  # what is noted meanwhile comes behind
        parts = [
            (target, newest if newest.group is None else newest.where(newest.group == number))
            for number, target in self._targets.items()
        ]
        self._is_writing = True
        try:
            async with connection.transaction():
                for target, part in parts:
                    await _put(connection, target, part)
        except psycopg.Error as exc:
            if not is_elsewhere(exc):
                self._keep(newest)
                raise
            await self._put_apart(connection, parts)
        finally:
            self._is_writing = False

    async def _put_apart(
        self, connection: AsyncConnection, parts: list[tuple[Target, Batch]]
    ) -> None:
        """Write what does not move; the rest stays noted."""
        failure: psycopg.Error | None = None
        for target, part in parts:
            try:
                async with connection.transaction():
                    await _put(connection, target, part)
            except psycopg.Error as exc:
                self._keep(part)
                failure = failure if is_elsewhere(exc) else exc
        if failure is not None:
            raise failure
        asyncio.get_running_loop().call_later(MOVING_SECONDS, self._wake.set)


async def _put(connection: AsyncConnection, target: Target, newest: Batch) -> None:
    if not len(newest):
        return
    await connection.execute(
        target.sql["latest_put"],
        {
            "sensor_id": newest.sensor_id,
            "metric_id": newest.metric_id,
            "us": newest.ts,
            "value": newest.value,
            "quality": newest.quality,
        },
    )


def _asked_for(newest: Batch, *, asked: list[Asked]) -> NDArray[np.bool_]:
    """Which of them somebody waits for."""
    found = np.zeros(len(newest), dtype=np.bool_)
    for one in asked:
        found |= one.sensor_ids is None or np.isin(newest.sensor_id, one.sensor_ids)
    return found


def _newest(batch: Batch) -> Batch:
    """The newest reading of each datastream."""
    order = np.lexsort((batch.ts, batch.metric_id, batch.sensor_id))
    sensor_id, metric_id = batch.sensor_id[order], batch.metric_id[order]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = (sensor_id[1:] != sensor_id[:-1]) | (metric_id[1:] != metric_id[:-1])
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order[is_last]] = True
    return batch.where(chosen)
