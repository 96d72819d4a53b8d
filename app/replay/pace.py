"""When the next rows may go: at once, at so many readings a second, or as they were measured."""

import sys
import time
from typing import Protocol

from app.replay.series import SECOND


class Pace(Protocol):
    """Tells a sender how long to wait, and up to which time it may then send."""

    most: int
    """Most readings in one request, whatever the sender's own limit."""

    def wait_for(self, ts: int) -> float:
        """Seconds until a row of this time may be sent."""

    def until(self) -> float:
        """Newest row time that may be sent now."""

    def sent(self, readings: int) -> None:
        """So many readings are about to go out."""


class Unpaced:
    """As fast as the server takes it."""

    most = sys.maxsize

    def wait_for(self, ts: int) -> float:
        """Never wait."""
        return 0.0

    def until(self) -> float:
        """No row is too new."""
        return float("inf")

    def sent(self, readings: int) -> None:
        """Nothing to remember."""


class Steady(Unpaced):
    """A number of readings per second over all sensors."""

    def __init__(self, readings_per_second: float) -> None:
        self.rate = readings_per_second
        self.most = max(1, int(readings_per_second))  # no more than a second's worth at once
        self.free_at = time.monotonic()

    def wait_for(self, ts: int) -> float:
        """Until what was sent before has used up its time."""
        return self.free_at - time.monotonic()

    def sent(self, readings: int) -> None:
        """Take up the time of these readings; time lost before is not made up for."""
        self.free_at = max(self.free_at, time.monotonic()) + readings / self.rate


class Recorded(Unpaced):
    """The recording's own spacing, `speedup` times as fast; `origin` is sent now."""

    def __init__(self, origin: int, speedup: float) -> None:
        self.origin = origin
        self.per_second = speedup * SECOND
        self.started = time.monotonic()

    def wait_for(self, ts: int) -> float:
        """Until that time has come in the recording."""
        return self.started + (ts - self.origin) / self.per_second - time.monotonic()

    def until(self) -> float:
        """The present moment in the recording."""
        return self.origin + (time.monotonic() - self.started) * self.per_second
