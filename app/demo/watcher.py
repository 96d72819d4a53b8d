"""A live subscriber, as an operator's screen would be: notes when each alert arrives."""

import asyncio
import time
from datetime import datetime

import msgspec
from websockets.asyncio.client import connect

from app.epoch import micros
from app.errors import CommandError

Cause = tuple[str, str, str, str, int]
"""sensor, metric, severity, side, opened_at in microseconds."""


class Alert(msgspec.Struct, frozen=True):
    """The part of an event's alert that names it."""

    sensor: str
    metric: str
    severity: str
    side: str
    opened_at: datetime


class Event(msgspec.Struct, frozen=True):
    """A message of the live service."""

    kind: str
    alert: Alert | None = None


class Watcher:
    """`start` returns once the subscription stands; `raised_at` fills from then on."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.replace("http", "ws", 1) + "/api/v1/live"
        self._key = key
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.raised_at: dict[Cause, float] = {}
        """When the event `raised` arrived, by time.monotonic()."""
        self.resolved = 0
        """How many events `resolved` arrived."""

    async def start(self) -> None:
        """Subscribe. Raises CommandError where the service does not answer."""
        self._task = asyncio.create_task(self._run())
        try:
            await asyncio.wait_for(self._ready.wait(), 10)
        except TimeoutError:
            raise CommandError(f"{self._url}: no subscription within 10 s") from None

    async def stop(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with connect(self._url, additional_headers=headers, proxy=None) as socket:
            async for text in socket:
                now = time.monotonic()
                event = msgspec.json.decode(text, type=Event)
                if event.kind == "hello":
                    self._ready.set()
                elif event.kind == "resolved":
                    self.resolved += 1
                elif event.kind == "raised" and event.alert is not None:
                    alert = event.alert
                    cause = (
                        alert.sensor, alert.metric, alert.severity, alert.side,
                        micros(alert.opened_at),
                    )  # fmt: skip
                    self.raised_at.setdefault(cause, now)
