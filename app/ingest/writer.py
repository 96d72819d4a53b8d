"""Group commit without a timer: whatever waits when a connection is free goes in one transaction.

Invariants
- A submission's future resolves only after COMMIT, with one verdict for each reading.
- The common road is one COPY into the hypertable. After a unique violation the group, and some that
  follow, take the other, which looks first what is stored.
- One submission's failure is not its neighbours': a group that fails is tried again in parts.
- Few readings don't wait for many: where the others are busy with big groups, a connection writes what
  small submissions bring at once; and in a group they come first.
- A second connection helps only where there is much to write: it takes its part once ENOUGH waits for
  each COPY, or the others don't come back soon. Fewer, bigger transactions cost everybody less.
- What waits is bounded in readings; beyond that `submit` raises Unavailable and nothing is kept.
- Where the server is short of memory or locks for a moment (somebody's long question), the group waits.
- A lost connection is made anew; what was in flight is written again, which is safe because every
  reading has a natural key. While the server is away, waiting requests fail with 503.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import psycopg
import structlog
from psycopg import AsyncConnection

from app.db.away import node_away
from app.db.moving import is_elsewhere
from app.errors import Unavailable
from app.ingest.band import BandKeeper
from app.ingest.batch import Batch, join
from app.ingest.known import Codes
from app.ingest.latest import LatestKeeper
from app.ingest.link import Curious, Link
from app.ingest.queue import Queue, Submission, fail
from app.ingest.shard import Target
from app.ingest.verdict import Code
from app.settings import Settings

log = structlog.get_logger()

GROUP_READINGS = 50_000
"""Readings that go in one transaction at most, unless one submission has more."""
ENOUGH = 500
"""Readings that are worth a COPY of their own."""
PATIENCE_SECONDS = 0.05
"""How long fewer wait for that connection."""
WARY = 16
"""Groups after a collision that are looked up before they are written, not after they have failed."""
SHORTAGE_SECONDS = (0.1, 0.4, 1.5, 3.0)
"""Pauses before a group is tried again that found the server short of memory or locks."""


class Writer:
    """The process's writers on one server."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        targets: Mapping[int, Target],
        bands: BandKeeper,
        on_stray: Callable[[Batch], None] = lambda _: None,
        *,
        parts: int = 1,
        curious: Curious | None = None,
    ) -> None:
        self._settings = settings
        self._parts = parts
        """How many COPYs a gateway's batch is cut into, on all nodes together."""
        self._url = url
        self._curious = curious
        self._targets = targets
        self._waiting = Queue()
        self._wake = asyncio.Event()
        self._go = asyncio.Event()
        """Set where a writer may take what waits, however little it is."""
        self._door = asyncio.Lock()
        """One writer at a time waits for what comes; the others have nothing to wake up for."""
        self._busy = 0
        self._busy_with_large = 0
        self._wary = 0
        """Groups that are still to be looked up first."""
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._bands = bands
        self.latest = LatestKeeper(url, targets, on_stray=on_stray)
        self.connected = 0
        """Writer connections that are up."""

    def aim(self, targets: Mapping[int, Target], parts: int) -> None:
        """Shards have come or gone."""
        self._targets = targets
        self._parts = parts
        self.latest.aim(targets)

    def start(self) -> None:
        """Begin to write in the background."""
        self.latest.start()
        self._tasks = [
            asyncio.create_task(self._run(), name=f"writer-{number}")
            for number in range(self._settings.ingest_writers)
        ]

    async def stop(self) -> None:
        """Write what was accepted, then stop."""
        self._is_stopping = True
        self._wake.set()
        self._go.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.latest.stop()

    async def flush_latest(self, sensor_ids: Sequence[int] | None) -> None:
        """Wait until what this process has committed is in telemetry.latest_reading."""
        await self.latest.flush(sensor_ids)

    async def submit(self, batch: Batch) -> Codes:
        """Write a batch; the verdict of each reading (STORED, DUPLICATE or CONFLICT), shape (n,).

        Raises Unavailable when too much waits or the database is away; then nothing may be assumed
        stored, and sending again is safe.
        """
        size = len(batch)
        if not size:
            return np.zeros(0, dtype=np.uint8)
        is_full = self.queued_readings + size > self._settings.ingest_queue_readings
        if self._is_stopping or (is_full and self._waiting):
            raise Unavailable(
                "More readings wait than can be written right now; send again later.",
                headers={"Retry-After": "1"},
            )
        submission = Submission(batch, asyncio.get_running_loop().create_future(), size)
        self._waiting.put(submission)
        self._wake.set()
        if not self._go.is_set():
            self._weigh()
        return await submission.done

    @property
    def queued_readings(self) -> int:
        """What waits."""
        return self._waiting.readings

    @property
    def _is_lane(self) -> bool:
        """Whether there is something small, and all who are busy are so with something large."""
        return bool(self._waiting.small) and self._busy == self._busy_with_large > 0

    @property
    def _enough(self) -> int:
        """Waiting readings that make it worth while to write beside another connection."""
        return min(GROUP_READINGS, ENOUGH * self._parts)

    def _weigh(self) -> None:
        """May whoever is free begin?"""
        is_much = self.queued_readings >= self._enough
        if not self._busy or is_much or self._is_lane or self._is_stopping:
            self._go.set()
        else:
            self._go.clear()

    async def _turn(self) -> None:
        """Wait until there is something to take, and enough of it to take it beside others."""
        await self._wake.wait()
        if not self._go.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._go.wait()

    def _take(self) -> list[Submission]:
        """What goes in one transaction: a fair share, where others are idle, too."""
        idle = self._settings.ingest_writers - self._busy
        shares = max(1, min(idle, self.queued_readings // self._enough))
        most = min(GROUP_READINGS, max(ENOUGH, -(-self.queued_readings // shares)))
        group = self._waiting.take(most, is_small_only=self._is_lane)
        if not self._waiting and not self._is_stopping:  # all writers must see the end
            self._wake.clear()
        return group

    async def _run(self) -> None:
        link: Link | None = None
        while True:
            async with self._door:
                await self._turn()
                group = self._take()
            if not group:
                if self._is_stopping:
                    break
                continue
            is_large = sum(submission.size for submission in group) > ENOUGH
            self._busy += 1
            self._busy_with_large += is_large
            self._weigh()
            for attempt in (1, 2):
                try:
                    if link is None:
                        link = await self._open()
                    await self._write(link, group)
                    break
                except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as exc:
                    log.warning("writer_lost_connection", error=str(exc).strip(), attempt=attempt)
                    await self._close(link)
                    link = None
                    if attempt == 2:
                        fail(group, _away())
                        await asyncio.sleep(0.2)
                except Exception as exc:
                    log.exception("writer_failed")
                    await self._close(link)
                    link = None
                    fail(group, exc)
                    break
            self._busy -= 1
            self._busy_with_large -= is_large
            self._weigh()
        await self._close(link)

    async def _open(self) -> Link:
        link = await Link.open(self._url, self._bands, self._curious)
        self.connected += 1
        return link

    async def _close(self, link: Link | None) -> None:
        if link is not None:
            self.connected -= 1
            await link.connection.close()

    async def _write(self, link: Link, group: list[Submission]) -> None:
        """Write a group by the quickest road that works; every future is resolved or failed."""
        batch = join([submission.batch for submission in group])
        for pause in (*SHORTAGE_SECONDS, None):
            try:
                codes = await self._store(link, batch)
                break
            except psycopg.Error as exc:
                if pause is None or not isinstance(exc, psycopg.errors.OutOfMemory):
                    await self._write_parts(link, group, exc)
                    return
                log.warning("writer_waits", sqlstate=exc.sqlstate, error=str(exc).strip())
                await asyncio.sleep(pause)
        self._resolve(group, batch, codes)

    async def _store(self, link: Link, batch: Batch) -> Codes:
        codes = None
        if self._wary:
            self._wary -= 1
        else:
            codes = await link.store_new(self._targets, batch)
        if codes is None:
            codes = await link.store_colliding(self._targets, batch)
            if codes.any():
                self._wary = WARY
        return codes

    async def _write_parts(self, link: Link, group: list[Submission], cause: psycopg.Error) -> None:
        """The group failed as a whole: each submission for itself, the guilty one fails alone."""
        if not is_elsewhere(cause):
            log.warning("writer_group_failed", sqlstate=cause.sqlstate, error=str(cause).strip())
        if _is_lost(link.connection, cause):
            raise psycopg.OperationalError(str(cause).strip()) from cause
        if node_away(cause):  # behind the server, which holds all of the group
            fail(group, _away())
            return
        if is_elsewhere(cause) and len(group) == 1:  # the road knows what to do
            fail(group, cause)
            return
        if isinstance(cause, psycopg.OperationalError) and not (
            isinstance(cause, psycopg.errors.DeadlockDetected) or is_elsewhere(cause)
        ):
            # a time-out or a full disk, no reading's fault: parts would fail as the whole did
            fail(group, _busy())
            return
        for submission in group:
            try:
                codes = await link.store_colliding(self._targets, submission.batch)
            except psycopg.Error as exc:
                if _is_lost(link.connection, exc):
                    raise psycopg.OperationalError(str(exc).strip()) from exc
                is_passing = node_away(exc) or isinstance(exc, psycopg.OperationalError)
                fail([submission], _busy() if is_passing and not is_elsewhere(exc) else exc)
                continue
            self._resolve([submission], submission.batch, codes)

    def _resolve(self, group: list[Submission], batch: Batch, codes: Codes) -> None:
        """Hand out the verdicts of a committed group."""
        self.latest.note(batch if not codes.any() else batch.where(codes == Code.STORED))
        start = 0
        for submission in group:
            end = start + submission.size
            if not submission.done.done():
                submission.done.set_result(codes[start:end])
            start = end


def _away() -> Unavailable:
    return Unavailable(
        "The database can't be reached; send again later, nothing is lost by it.",
        headers={"Retry-After": "2"},
    )


def _is_lost(connection: AsyncConnection, exc: psycopg.Error) -> bool:
    """Whether the connection is, or is about to be, closed."""
    return connection.closed or isinstance(
        exc, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown
    )


def _busy() -> Unavailable:
    return Unavailable(
        "The database can't take readings right now; nothing was stored, send again later.",
        headers={"Retry-After": "5"},
    )
