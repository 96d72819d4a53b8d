"""The proof: what the chunk and the files must both have, sensor by sensor.

Count, first and last time and the checksum must agree to the last digit. The checksum is the sum, modulo
2**64, of a hash over the bits of each reading's time, metric, value and flag: it does not depend on
order, and any other bit gives another sum. Sums of values may differ by the order of adding up.
"""

import math
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.epoch import moment_of

BLOCK_ROWS = 16_384
"""What is hashed at a time: it stays in the processor's cache."""
CHECKSUM_KIND = 2
"""The checksum above; app/archive/fingerprint.py has kind 1. archive.export says which it is."""

_VALUE = np.uint64(0x9E3779B97F4A7C15)
_TIME = np.uint64(0xC2B2AE3D27D4EB4F)
_TAG = np.uint64(0x165667B19E3779F9)
_LAST = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_TIMES = (-62_135_596_800_000_000, 253_402_300_799_999_999)

Ints = NDArray[np.int64]
Shorts = NDArray[np.int16]
Floats = NDArray[np.float64]


class SensorDigest(msgspec.Struct, frozen=True):
    """What must be equal in both places, for one sensor."""

    sensor_id: int
    row_count: int
    first_ts: datetime
    last_ts: datetime
    value_sum: float
    value_abs_sum: float
    checksum: int


Digest = Mapping[int, SensorDigest]


class Columns(msgspec.Struct, frozen=True):
    """Readings without their sensors; arrays of one length."""

    ts: Ints
    """Microseconds since 1970."""
    metric: Shorts
    value: Floats
    quality: Shorts


class Tally:
    """Adds up digests, piece by piece, in any order and from several threads."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._lock = threading.Lock()

    def add(self, sensor: Ints, starts: Ints, readings: Columns) -> None:
        """Readings in runs of one sensor: `sensor[i]` has those from `starts[i]` to the next start."""
        if not len(readings.ts):
            return
        part = (
            sensor,
            np.diff(starts, append=len(readings.ts)),
            np.minimum.reduceat(readings.ts, starts),
            np.maximum.reduceat(readings.ts, starts),
            np.add.reduceat(readings.value, starts),
            np.add.reduceat(np.abs(readings.value), starts),
            np.add.reduceat(reading_hashes(readings), starts),
        )
        with self._lock:
            self._parts.append(part)

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Readings as DuckDB returns them: sensor, metric, time, value, flag."""
        sensor = batch.column(0).to_numpy()
        ts = batch.column(2).cast(pa.int64()).to_numpy()
        is_first = np.ones(len(sensor), dtype=np.bool_)
        is_first[1:] = sensor[1:] != sensor[:-1]
        starts = np.flatnonzero(is_first)
        metric, value, quality = (batch.column(number).to_numpy() for number in (1, 3, 4))
        self.add(sensor[starts], starts, Columns(ts, metric, value, quality))

    def digest(self) -> dict[int, SensorDigest]:
        """What was added up so far."""
        if not self._parts:
            return {}
        columns = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        sensor, count, first, last, total, size, checksum = (column[order] for column in columns)
        starts = np.flatnonzero(np.diff(sensor, prepend=sensor[0] - 1))
        merged = zip(
            sensor[starts].tolist(),
            np.add.reduceat(count, starts).tolist(),
            map(_moment, np.minimum.reduceat(first, starts).tolist()),
            map(_moment, np.maximum.reduceat(last, starts).tolist()),
            np.add.reduceat(total, starts).tolist(),
            np.add.reduceat(size, starts).tolist(),
            np.add.reduceat(checksum, starts).tolist(),
            strict=True,
        )
        return {row[0]: SensorDigest(*row) for row in merged}


def reading_hashes(readings: Columns) -> NDArray[np.uint64]:
    """A number a reading that another bit anywhere would change."""
    n = len(readings.ts)
    found = np.empty(n, dtype=np.uint64)
    for at in range(0, n, BLOCK_ROWS):
        some = slice(at, at + BLOCK_ROWS)
        found[some] = _hashes(
            Columns(
                readings.ts[some],
                readings.metric[some],
                readings.value[some],
                readings.quality[some],
            )
        )
    return found


def _hashes(readings: Columns) -> NDArray[np.uint64]:
    # numpy wraps around silently, which is what is wanted
    bits = readings.value.view(np.uint64)
    found = bits >> _HALF
    found ^= bits
    found *= _VALUE
    part = readings.ts.view(np.uint64) * _TIME
    found ^= part
    np.right_shift(found, np.uint64(29), out=part)
    found ^= part
    tag = readings.metric.astype(np.uint64)
    tag <<= np.uint64(16)
    tag += readings.quality.view(np.uint16)
    tag *= _TAG
    found += tag
    found *= _LAST
    np.right_shift(found, _HALF, out=part)
    found ^= part
    return found


def digest_of(rows: Iterable[tuple[object, ...]]) -> dict[int, SensorDigest]:
    """From rows of a statement; a checksum may be text or numeric."""
    found = {}
    for row in rows:
        sensor_id, count, first, last, total, size, checksum = row
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        assert isinstance(total, float)
        assert isinstance(size, float)
        assert isinstance(checksum, str | Decimal | int)
        found[int(str(sensor_id))] = SensorDigest(
            int(str(sensor_id)), int(str(count)), first, last, total, size, int(checksum)
        )
    return found


def difference(wanted: Digest, found: Digest) -> str | None:
    """The first thing that differs, for people; None: nothing."""
    for sensor_id in sorted(wanted.keys() | found.keys()):
        a, b = wanted.get(sensor_id), found.get(sensor_id)
        if a is None or b is None:
            count = (a or b).row_count  # type: ignore[union-attr]
            return (
                f"sensor {sensor_id}: {count} readings are {'missing' if b is None else 'too many'}"
            )
        if a.row_count != b.row_count:
            return f"sensor {sensor_id}: {b.row_count} readings instead of {a.row_count}"
        if (a.first_ts, a.last_ts) != (b.first_ts, b.last_ts):
            return f"sensor {sensor_id}: other times"
        if a.checksum != b.checksum:
            return f"sensor {sensor_id}: other values (checksum)"
        if not _is_near(a.value_sum, b.value_sum, max(a.value_abs_sum, b.value_abs_sum)):
            return f"sensor {sensor_id}: the values add up to {b.value_sum}, not {a.value_sum}"
    return None


def total(digest: Digest) -> tuple[int, datetime | None, datetime | None, float]:
    """Count, first and last time, sum of values."""
    rows = list(digest.values())
    return (
        sum(row.row_count for row in rows),
        min((row.first_ts for row in rows), default=None),
        max((row.last_ts for row in rows), default=None),
        sum(row.value_sum for row in rows),
    )


def _is_near(a: float, b: float, size: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return abs(a - b) <= 1e-9 * size


def _moment(us: int) -> datetime:
    # what a damaged file has for a time may be no date at all
    return moment_of(min(max(us, _TIMES[0]), _TIMES[1]))
