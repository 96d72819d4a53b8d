"""DuckDB's half of the proof in sql/archive/digest.sql, and the comparison.

Counts, times and checksums must agree to the last digit. Sums of values may differ by the order in which
they were added up, which no two scans share.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

_TIER = (
    "{number} + floor(value * {by})::bigint % 2147483647"
    " + 3 * floor((value * {by} - floor(value * {by})) * 2147483648.0::double)::bigint"
)
_VALUE = (
    "case when abs(value) >= 0.00048828125::double and abs(value) < 524288::double then "
    + _TIER.format(number=1, by="8589934592.7182818::double")
    + " when abs(value) < 0.00048828125::double then "
    + _TIER.format(number=2, by="1.5795e18::double")
    + " when abs(value) < 1e15::double then "
    + _TIER.format(number=3, by="1021.314159::double")
    + " else 5 end"
)
_WEIGHT = "((epoch_us(ts) + metric_id::bigint * 7919 + quality::bigint * 104729) % 134217689)"
FINGERPRINT = f"(({_VALUE}) * {_WEIGHT})"
"""archive.fingerprint() in DuckDB's words."""

DIGEST = (
    "select sensor_id, count(*), min(ts), max(ts), sum(value), sum(abs(value)),"
    f" sum({FINGERPRINT})::varchar from {{source}} group by sensor_id"
)
"""archive.digest() in DuckDB's words, over any source with a reading's columns."""


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


def digest_of(rows: Iterable[tuple[object, ...]]) -> dict[int, SensorDigest]:
    """From the rows of either statement; a checksum may be text or numeric."""
    found = {}
    for row in rows:
        sensor_id, count, first, last, total, size, checksum = row
        assert isinstance(checksum, str | Decimal | int)
        found[int(str(sensor_id))] = SensorDigest(
            int(str(sensor_id)),
            int(str(count)),
            _moment(first),
            _moment(last),
            _number(total),
            _number(size),
            int(checksum),
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
        if not _is_near(a, b):
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


def _is_near(a: SensorDigest, b: SensorDigest) -> bool:
    if a.value_sum == b.value_sum or (a.value_sum != a.value_sum and b.value_sum != b.value_sum):
        return True
    return abs(a.value_sum - b.value_sum) <= 1e-9 * max(a.value_abs_sum, b.value_abs_sum)


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value
