"""A recorded datastream, and what `headwater replay` may do to a set of them before sending.

A `Series` is one metric of one sensor, column-wise: times in microseconds UTC, ascending, and
finite values in the file's own unit. Nothing here changes a value; equal times stay in the order
of the file, because the first one sent is the one that counts.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000
"""Microseconds in a second."""
DAY = 86_400 * SECOND
"""Microseconds in a day."""


class Series(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One metric of one sensor."""

    sensor: str
    metric: str
    unit: str
    """As in the file; the server converts. Empty: the metric's own."""
    ts: NDArray[np.int64]
    values: NDArray[np.float64]

    def part(self, keep: NDArray[np.bool_]) -> "Series":
        """Only the readings that `keep` marks."""
        return msgspec.structs.replace(self, ts=self.ts[keep], values=self.values[keep])

    def moved(self, microseconds: int) -> "Series":
        """The same readings, later by this much."""
        return msgspec.structs.replace(self, ts=self.ts + microseconds)


def count(series: Iterable[Series]) -> int:
    """How many readings."""
    return sum(len(one.ts) for one in series)


def cut(
    series: Sequence[Series], *, start: int | None = None, end: int | None = None
) -> list[Series]:
    """Readings from `start` up to but not at `end`, microseconds UTC; empty series vanish."""
    parts = []
    for one in series:
        keep = np.ones(len(one.ts), dtype=np.bool_)
        if start is not None:
            keep &= one.ts >= start
        if end is not None:
            keep &= one.ts < end
        parts.append(one.part(keep))
    return [part for part in parts if len(part.ts)]


def last_days(series: Sequence[Series], days: float) -> list[Series]:
    """The last days of each sensor, counted back from that sensor's own newest reading."""
    newest = newest_by_sensor(series)
    return [
        part
        for one in series
        for part in cut([one], start=newest[one.sensor] - int(days * DAY) + 1)
    ]


def newest_by_sensor(series: Sequence[Series]) -> dict[str, int]:
    """Time of each sensor's newest reading."""
    newest: dict[str, int] = {}
    for one in series:
        if len(one.ts):
            newest[one.sensor] = max(int(one.ts[-1]), newest.get(one.sensor, int(one.ts[-1])))
    return newest


def align(series: Sequence[Series]) -> list[Series]:
    """Move each sensor so that all end together with the latest: years become one time."""
    newest = newest_by_sensor(series)
    end = max(newest.values(), default=0)
    return [one.moved(end - newest[one.sensor]) for one in series if len(one.ts)]


def shift_to(series: Sequence[Series], now: int) -> list[Series]:
    """Move everything by one shift so that the newest reading is at `now`, whole seconds."""
    newest = max(newest_by_sensor(series).values(), default=0)
    return [one.moved(now // SECOND * SECOND - newest) for one in series]


def clone(series: Sequence[Series], copies: int) -> list[Series]:
    """Each sensor `copies` times over, named uid-1, uid-2, …; the arrays are shared."""
    return [
        msgspec.structs.replace(one, sensor=f"{one.sensor}-{number}")
        for number in range(1, copies + 1)
        for one in series
    ]
