"""Readings as JSON, NDJSON or CSV, by Accept."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request

from app.errors import NotAcceptable
from app.read.series import RawRow, RollupRow

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
OFFERED = [JSON, NDJSON, CSV]

Row = RawRow | RollupRow


class Reading(msgspec.Struct, frozen=True):
    """One raw reading."""

    sensor: str
    metric: str
    ts: datetime
    value: float
    unit: str
    quality: int
    """QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing."""


class Bucket(msgspec.Struct, frozen=True):
    """One bucket of a rollup. `n` is 0 and `is_filled` true where there was no reading."""

    sensor: str
    metric: str
    bucket: datetime
    n: int
    avg: float | None
    min: float | None
    max: float | None
    first: float | None
    last: float | None
    unit: str
    n_suspect: int
    n_fail: int
    is_filled: bool


def negotiate(request: Request[Any, Any, Any]) -> str:
    """The media type to answer with. Raises NotAcceptable."""
    accepted = request.headers.get("accept", "").strip()
    if not accepted:
        return JSON
    found = request.accept.best_match(OFFERED)
    if found is None:
        raise NotAcceptable(
            f"Accept: {accepted[:80]!r} is not offered; accept {', '.join(OFFERED)}."
        )
    return found


def public(row: Row) -> Reading | Bucket:
    """Without the platform's own numbers."""
    if isinstance(row, RawRow):
        return Reading(row.sensor, row.metric, row.ts, row.value, row.unit, row.quality)
    return Bucket(
        row.sensor,
        row.metric,
        row.bucket,
        row.n,
        row.avg,
        row.min,
        row.max,
        row.first,
        row.last,
        row.unit,
        row.n_suspect,
        row.n_fail,
        row.is_filled,
    )


def ndjson(rows: Sequence[Row]) -> bytes:
    """One JSON object a line."""
    return msgspec.json.Encoder().encode_lines([public(row) for row in rows])


def csv_header(*, is_raw: bool) -> bytes:
    """The names of the columns."""
    return (",".join((Reading if is_raw else Bucket).__struct_fields__) + "\r\n").encode()


def csv_lines(rows: Sequence[Row]) -> bytes:
    """Lines of RFC 4180; an absent value is empty, times are RFC 3339."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow(_cell(value) for value in msgspec.structs.astuple(public(row)))
    return out.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
