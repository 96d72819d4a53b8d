"""One sensor's readings laid out as its requests need them: a row per time, a column per metric.

Rows are in time order. Where a file has several values for one time and metric, the later ones
follow in rows of their own, in the file's order, so nothing is lost and the first is sent first.
A feed is read by one task at a time and remembers how far it got.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import CommandError
from app.replay.series import SECOND, Series


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One request's worth of one sensor."""

    sensor: str
    first: int
    last: int
    """Times of the first and last row, microseconds UTC."""
    readings: int
    body: bytes
    precision: str
    """Unit of the body's times: s where all are whole seconds, else us."""


class Feed:
    """What is left to send of one sensor."""

    def __init__(self, sensor: str, series: Sequence[Series]) -> None:
        self.sensor = sensor
        self.ts, self.columns, self.units = lay_out(series)
        present = np.sum([~np.isnan(column) for column in self.columns.values()], axis=0)
        self.counts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(present)])
        self.position = 0

    def __len__(self) -> int:
        return int(self.counts[-1] - self.counts[self.position])

    @property
    def next_ts(self) -> int:
        """Time of the next row."""
        return int(self.ts[self.position])

    def take(self, limit: int, until: float) -> Batch:
        """The next rows with at most `limit` readings, none later than `until`; at least one."""
        start = self.position
        by_size = int(np.searchsorted(self.counts, self.counts[start] + limit, "right")) - 1
        by_time = int(np.searchsorted(self.ts, until, "right"))
        end = max(start + 1, min(by_size, by_time))
        self.position = end
        ts = self.ts[start:end]
        whole = not (ts % SECOND).any()
        entry: dict[str, object] = {
            "sensor": self.sensor,
            "ts": (ts // SECOND if whole else ts).tolist(),
            "metrics": {
                metric: column[start:end].tolist()  # JSON has no NaN: it is written as null
                for metric, column in self.columns.items()
                if not np.isnan(column[start:end]).all()
            },
        }
        if self.units:
            entry["units"] = self.units
        return Batch(
            sensor=self.sensor,
            first=int(ts[0]),
            last=int(ts[-1]),
            readings=int(self.counts[end] - self.counts[start]),
            body=msgspec.json.encode(entry),
            precision="s" if whole else "us",
        )


def feeds(series: Sequence[Series]) -> list[Feed]:
    """One feed per sensor that has readings."""
    by_sensor: dict[str, list[Series]] = {}
    for one in series:
        if len(one.ts):
            by_sensor.setdefault(one.sensor, []).append(one)
    return [Feed(sensor, parts) for sensor, parts in by_sensor.items()]


def lay_out(
    series: Sequence[Series],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]], dict[str, str]]:
    """Times, a column per metric with NaN where it has no value, and the metrics' units."""
    merged: dict[str, Series] = {}
    for one in series:
        before = merged.get(one.metric)
        merged[one.metric] = one if before is None else join(before, one)
    # A row is known by its time and by how many rows of that time precede it.
    ranks = {metric: rank_of_equals(one.ts) for metric, one in merged.items()}
    keys = np.unique(
        np.concatenate(
            [np.stack([one.ts, ranks[metric]], axis=1) for metric, one in merged.items()]
        ),
        axis=0,
    )
    ts = np.ascontiguousarray(keys[:, 0])
    first_row_of = np.arange(len(ts)) - rank_of_equals(ts)
    columns = {}
    for metric, one in merged.items():
        rows = first_row_of[np.searchsorted(ts, one.ts, "left")] + ranks[metric]
        column = np.full(len(ts), np.nan)
        column[rows] = one.values
        columns[metric] = column
    return ts, columns, {metric: one.unit for metric, one in merged.items() if one.unit}


def join(first: Series, second: Series) -> Series:
    """Two series of one sensor and metric as one, in time order, the first one's before."""
    if first.unit != second.unit:
        raise CommandError(
            f"{first.sensor}: {first.metric} comes in two units, {first.unit!r} and"
            f" {second.unit!r}: replay the files one after the other"
        )
    ts = np.concatenate([first.ts, second.ts])
    values = np.concatenate([first.values, second.values])
    order = np.argsort(ts, kind="stable")
    return msgspec.structs.replace(first, ts=ts[order], values=values[order])


def rank_of_equals(ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For ascending times: how many equal ones precede each."""
    return np.arange(len(ts), dtype=np.int64) - np.searchsorted(ts, ts, "left")
