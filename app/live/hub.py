"""Tells every subscriber of every change of an alert, once, as soon as it is committed.

The outbox is the truth. A bell only says that it is worth looking; the hub then reads the rows after
its mark. Identifiers are given before the commit, so one may appear below the mark later: every
number that is missing below the mark is kept as a gap and asked for again until it is filled or so
old that its transaction can only have been rolled back. So nothing is skipped or told twice,
whatever the order of commits.

On one server the process's own writers ask in the message that commits an alert, and the hub has the
answer with the commit's, without waiting for the bell and a question of its own. The bell rings all the
same, for other processes and for what an answer that failed has left. Whoever comes first tells an event.

A subscriber has a bounded queue. Who reads too slowly is dropped and told so; nobody waits for him.
While a node of a distributed server is away, the others' events are told all the same; those of its own
that had come before are gaps until it is back.

While nobody listens the hub reads nothing. It has a connection of its own, because the pool may be
busy with long reads, and makes a new one after a failure.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.pq.abc import PGresult

from app.db.pool import Connection, Pool, connect
from app.live.event import (
    Apart,
    OutboxEvent,
    Page,
    events_of,
    events_question,
    message,
    outbox_collect,
    outbox_collect_living,
    outbox_is_apart,
    outbox_known,
    outbox_newest,
    read_events,
)
from app.live.subscription import QUEUE_EVENTS, Delivery, Filter, Subscription
from app.ops.metrics import ALERT_EVENTS, LIVE_DROPPED, LIVE_SECONDS, LIVE_SUBSCRIBERS

log = structlog.get_logger()

PAGE_EVENTS = 1_000
LOOK_BACK = 1_000
"""How many identifiers before the newest are looked through for transactions under way."""
GAP_SECONDS = 900.0
FRESH_GAP_SECONDS = 10.0
GAP_COUNT = 10_000
RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
PARTIAL_SECONDS = 15.0
"""How long a node that was away is not waited for."""


class Hub:
    """Reads the outbox when the bell rings and hands it out. `ring` never blocks."""

    def __init__(self, pool: Pool, apart: Apart = lambda sensor_ids: [sensor_ids]) -> None:
        self._pool = pool
        self._apart = apart
        self._partial_until = 0.0
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._subscriptions: set[Subscription] = set()
        self._connection: Connection | None = None
        self._is_apart = True
        self._lock = asyncio.Lock()
        self._mark: int | None = None
        self._gaps: dict[int, float] = {}

    def start(self) -> None:
        """Begin to listen in the background."""
        self._task = asyncio.create_task(self._run(), name="live-hub")

    async def stop(self) -> None:
        """Stop; subscribers get nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._hang_up()

    def ring(self) -> None:
        """There may be something new."""
        self._bell.set()

    @property
    def is_running(self) -> bool:
        """Whether the background task lives."""
        return self._task is not None and not self._task.done()

    @property
    def subscriber_count(self) -> int:
        """Open subscriptions of this process."""
        return len(self._subscriptions)

    @property
    def resume(self) -> int:
        """Everything up to this identifier has been handed out."""
        fresh = time.monotonic() - FRESH_GAP_SECONDS
        gaps = [number for number, since in self._gaps.items() if since > fresh]
        return min([self._mark or 0, *(number - 1 for number in gaps)])

    @asynccontextmanager
    async def subscribe(
        self, wanted: Filter, *, size: int = QUEUE_EVENTS
    ) -> AsyncIterator[Subscription]:
        """Whatever is committed from now on arrives. Raises psycopg.Error where the server is down."""
        subscription = Subscription(wanted, size=size)
        async with self._lock:
            if self._mark is None:
                await self._set_mark()
            self._subscriptions.add(subscription)
        LIVE_SUBSCRIBERS.inc()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            LIVE_SUBSCRIBERS.dec()

    async def past(self, wanted: Filter, *, since: int) -> AsyncIterator[Delivery]:
        """What the table has after an identifier, oldest first, for a client that comes back."""
        after = since
        while True:
            async with self._pool.connection() as connection:
                page = await read_events(
                    connection,
                    after=after,
                    gaps=[],
                    tenant_id=wanted.tenant_id,
                    count=PAGE_EVENTS,
                    is_apart=self._is_apart,
                )
            for event in page.events:
                after = event.outbox_id
                if wanted.takes(event):
                    yield Delivery(after, after, message(event, resume=after))
            if page.last is None or not page.is_full:
                return
            after = page.last

    async def _run(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            try:
                async with self._lock:
                    await self._read()
            except (psycopg.Error, OSError) as exc:
                log.warning("live_hub_lost_database", error=str(exc).strip())
                await self._hang_up()
                await asyncio.sleep(RETRY_SECONDS)
                self._bell.set()

    async def _read(self) -> None:
        if not self._subscriptions:
            self._mark = None
            self._gaps.clear()
            return
        try:
            line = await self._line()
            if self._is_apart:
                is_partial = time.monotonic() < self._partial_until
                await (outbox_collect_living if is_partial else outbox_collect)(line)
        except psycopg.OperationalError:
            self._partial_until = time.monotonic() + PARTIAL_SECONDS
            raise
        if self._mark is None:
            await self._set_mark()
        is_more = True
        while is_more:
            assert self._mark is not None
            page = await read_events(
                await self._line(),
                after=self._mark,
                gaps=list(self._gaps),
                tenant_id=None,
                count=PAGE_EVENTS,
                apart=self._apart,
                is_apart=self._is_apart,
            )
            is_more = page.is_full
            self._tell(page)

    def question(self) -> str | None:
        """What a writer is to ask in the message that commits an alert; None: nothing."""
        if self._is_apart or self._mark is None or not self._subscriptions:
            return None
        return events_question(after=self._mark, gaps=list(self._gaps), count=PAGE_EVENTS)

    def answer(self, connection: AsyncConnection, result: PGresult | None) -> None:
        """What the writer was told. Raises nothing: the commit is done, and the bell rings anyway."""
        if result is None or self._mark is None:
            return
        try:
            page = events_of(connection, result, count=PAGE_EVENTS)
            self._tell(page)
        except Exception:
            log.exception("live_hub_took_no_answer")

    def _tell(self, page: Page) -> None:
        """Hand out what nobody has told meanwhile."""
        assert self._mark is not None
        mark, gaps = self._mark, self._gaps
        fresh = [e for e in page.events if e.outbox_id > mark or e.outbox_id in gaps]
        self._account_for(event.outbox_id for event in fresh)
        self._account_for(page.unread)
        self._gaps |= dict.fromkeys(page.unread, time.monotonic())
        self._hand_out(fresh)

    def _account_for(self, numbers: Iterable[int]) -> None:
        """Move the mark; what is missing below it is a gap."""
        assert self._mark is not None
        now = time.monotonic()
        for number in numbers:
            if number > self._mark:
                missing = range(max(self._mark + 1, number - GAP_COUNT), number)
                self._gaps.update(dict.fromkeys(missing, now))
                self._mark = number
            else:
                self._gaps.pop(number, None)
        # oldest first, as they were put in
        while self._gaps:
            number, since = next(iter(self._gaps.items()))
            if now - since < GAP_SECONDS and len(self._gaps) <= GAP_COUNT:
                break
            del self._gaps[number]

    def _hand_out(self, events: list[OutboxEvent]) -> None:
        resume = self.resume
        now = datetime.now(UTC)
        for event in events:
            LIVE_SECONDS.observe(max((now - event.created_at).total_seconds(), 0.0))
            takers = [one for one in self._subscriptions if one.filter.takes(event)]
            if not takers:
                continue
            ALERT_EVENTS.labels(event.kind).inc(len(takers))
            delivery = Delivery(event.outbox_id, resume, message(event, resume=resume))
            for taker in takers:
                if not taker.put(delivery):
                    self._subscriptions.discard(taker)
                    LIVE_DROPPED.inc()

    async def _set_mark(self) -> None:
        """From here on; numbers below that are still under way will be told, too."""
        line = await self._line()
        newest = await outbox_newest(line)
        after = max(newest - LOOK_BACK, 0)
        known = set(await outbox_known(line, after=after, upto=newest))
        now = time.monotonic()
        self._gaps = {n: now for n in range(after + 1, newest) if n not in known}
        self._mark = newest

    async def _line(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(
                str(self._pool.conninfo), application="headwater-live", patience=PATIENCE_SECONDS
            )
            if not self._connection.is_pooled:
                self._connection.prepare_threshold = 1
            self._is_apart = await outbox_is_apart(self._connection)
        return self._connection

    async def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                await self._connection.close()
            self._connection = None
