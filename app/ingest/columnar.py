"""The fast road for columnar JSON: all columns end to end, then looked at as one.

A gateway sends many short ones of the same metrics, so what is done for each column in Python is as good
as nothing: its length is looked at and its values are appended. Anything unexpected raises
msgspec.MsgspecError and the body takes the lenient road (lenient.py).
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import MalformedBody
from app.ingest.columns import Channel, Columns
from app.ingest.limits import Limits
from app.ingest.times import parse_times
from app.ingest.verdict import Verdict

Time = str | int | float


class Item(msgspec.Struct):
    """One sensor's columns."""

    sensor: str
    ts: list[Time]
    metrics: dict[str, list[float | None]]
    units: dict[str, str] | None = None


class Wrapped(msgspec.Struct):
    """The list may also stand under a name."""

    series: list[Item] | None = None
    readings: list[Item] | None = None


ITEM = msgspec.json.Decoder(Item)
ITEMS = msgspec.json.Decoder(list[Item])
WRAPPED = msgspec.json.Decoder(Wrapped)

Kind = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]
"""Metrics in order and units: what items that look alike share."""

Numbers = tuple[tuple[int, ...], ...]
MOST_KNOWN = 2_000
"""Readings of a request whose layout is remembered."""


@dataclass(frozen=True)
class Layout:
    """Which sensor, channel and time each reading has; every array has shape (n,)."""

    sensor_no: NDArray[np.int32]
    channel_no: NDArray[np.int32]
    time_no: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        sensor_of: tuple[int, ...],
        kind_of: tuple[int, ...],
        count_of: tuple[int, ...],
        numbers: Numbers,
    ) -> "Layout":
        """From items to columns, from columns to readings; numbers: each kind's channels."""
        count = np.array(count_of, dtype=np.int64)
        width = np.array([len(numbers[kind]) for kind in kind_of], dtype=np.int64)
        item_no = np.repeat(np.arange(len(count)), width)
        channel_of = np.array([n for kind in kind_of for n in numbers[kind]], dtype=np.int32)
        length = count[item_no]
        begin = (np.cumsum(count) - count)[item_no] - (np.cumsum(length) - length)
        made = cls(
            sensor_no=np.repeat(np.array(sensor_of, dtype=np.int32), count * width),
            channel_no=np.repeat(channel_of, length),
            time_no=np.arange(int(length.sum())) + np.repeat(begin, length),
        )
        for array_ in (made.sensor_no, made.channel_no, made.time_no):
            array_.flags.writeable = False  # requests share them
        return made


remembered = lru_cache(maxsize=64)(Layout.of)
"""A gateway sends the same layout each time."""


def from_columnar(items: Sequence[Item], limits: Limits) -> Columns:
    """The readings of all items. Raises MalformedBody for a column of the wrong length."""
    limits.check(len(items))
    sensors: dict[str, int] = {}
    kinds: dict[Kind, int] = {}
    times: list[Time] = []
    values: list[float | None] = []
    # per item: sensor, kind, number of times
    sensor_of: list[int] = []
    kind_of: list[int] = []
    count_of: list[int] = []
    for item in items:
        metrics, n = item.metrics, len(item.ts)
        if len(values) + max(n, 1) * len(metrics) > limits.max_readings:
            limits.check(len(values) + max(n, 1) * len(metrics))
        for column in metrics.values():
            if len(column) != n:
                _complain(item)
            values += column
        times += item.ts
        kind = tuple(metrics), tuple(item.units.items()) if item.units else ()
        sensor_of.append(sensors.setdefault(item.sensor, len(sensors)))
        kind_of.append(kinds.setdefault(kind, len(kinds)))
        count_of.append(n)
    channels, numbers = _channels_of(kinds)
    lay_out = remembered if len(values) <= MOST_KNOWN else Layout.of
    layout = lay_out(tuple(sensor_of), tuple(kind_of), tuple(count_of), numbers)
    at = layout.time_no
    ts, reasons = parse_times(times, limits.precision)
    columns = Columns(
        sensors=list(sensors),
        channels=channels,
        sensor_no=layout.sensor_no,
        channel_no=layout.channel_no,
        ts=ts[at],
        value=_numbers(values),
        index=np.arange(len(values)),
    )
    keep = ~np.isnan(columns.value)
    if reasons:
        bad = np.isin(at, list(reasons)) & keep
        columns.rejected.extend(
            Verdict(i, "rejected", "ts", reasons[at[i]]) for i in np.flatnonzero(bad).tolist()
        )
        keep &= ~bad
    if not keep.all():
        columns.keep(keep)
    return columns


def _channels_of(kinds: dict[Kind, int]) -> tuple[list[Channel], Numbers]:
    """The distinct channels, and for each kind the numbers of its own."""
    channels: dict[Channel, int] = {}
    numbers = []
    for metrics, units in kinds:
        unit_of = dict(units)
        named = [(metric, unit_of.get(metric)) for metric in metrics]
        numbers.append(tuple(channels.setdefault(c, len(channels)) for c in named))
    return list(channels), tuple(numbers)


def _numbers(values: list[float | None]) -> NDArray[np.float64]:
    """The values; null becomes NaN, which JSON can't send."""
    try:
        return np.frombuffer(array("d", values))  # type: ignore[type-var]
    except TypeError:
        return np.array(values, dtype=np.float64)


def _complain(item: Item) -> None:
    for metric, column in item.metrics.items():
        check_length(item.sensor, metric, len(column), len(item.ts))


def check_length(sensor: str, metric: str, n_values: int, n_times: int) -> None:
    if n_values != n_times:
        raise MalformedBody(
            f"metrics.{metric[:60]} of sensor {sensor[:60]!r} has {n_values} values for {n_times} times; "
            "send null where there is no value."
        )
