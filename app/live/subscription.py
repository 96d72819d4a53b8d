"""Who listens, and what waits for each: a bounded queue."""

import asyncio
from collections import deque
from contextlib import suppress

import msgspec

from app.live.event import OutboxEvent

QUEUE_EVENTS = 1_000


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a subscriber gets; None or empty: no restriction."""

    tenant_id: int | None = None
    sites: frozenset[str] = frozenset()
    severities: frozenset[str] = frozenset()

    def takes(self, event: OutboxEvent) -> bool:
        """Whether the event passes."""
        return (
            (self.tenant_id is None or event.tenant_id == self.tenant_id)
            and (not self.sites or event.site in self.sites)
            and (not self.severities or event.severity in self.severities)
        )


class Delivery(msgspec.Struct, frozen=True):
    """An event as it goes out; encoded once for all."""

    outbox_id: int
    resume: int
    text: str


class TooSlowError(Exception):
    """The subscriber's queue was full: it has been dropped."""


class Subscription:
    """One subscriber's queue."""

    def __init__(self, wanted: Filter, *, size: int = QUEUE_EVENTS) -> None:
        self.filter = wanted
        self._queue: deque[Delivery] = deque()
        self._size = size
        self._awake = asyncio.Event()
        self._is_too_slow = False

    def put(self, delivery: Delivery) -> bool:
        """Queue it; False: the queue is full, the subscriber is out."""
        if len(self._queue) >= self._size:
            self._is_too_slow = True
            self._queue.clear()
        else:
            self._queue.append(delivery)
        self._awake.set()
        return not self._is_too_slow

    async def get(self, seconds: float) -> Delivery | None:
        """The next event; None after so many seconds without one. Raises TooSlowError."""
        if not self._queue and not self._is_too_slow:
            self._awake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._awake.wait()
        if self._is_too_slow:
            raise TooSlowError
        return self._queue.popleft() if self._queue else None
