"""What a query found, and its three forms: JSON, CSV, Arrow.

An answer is whole before its first byte is sent: its rows and bytes are capped, so it fits in memory,
and a failure in the middle can still be said properly.
"""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from app.errors import QueryRefused

JSON = "application/json"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"

ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)

ARROW_TYPES = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "numeric": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "interval": pa.duration("us"),
}


class Column(msgspec.Struct, frozen=True):
    """A column of the answer; `type` is PostgreSQL's name of it."""

    name: str
    type: str


class Scanned(msgspec.Struct, frozen=True):
    """The plan's estimates, to one digit: exact ones would tell of other tenants' rows."""

    cost: float
    rows: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a query found."""

    columns: list[Column]
    rows: list[tuple[Any, ...]]
    row_count: int
    truncated: bool
    """There are more rows than were asked for or may be sent."""
    engine: str
    scanned: Scanned | None
    seconds: float
    hot_from: datetime | None = None
    """Set where readings were asked for and some are archived: those before are not in the answer."""


def as_json(answer: Answer) -> bytes:
    """One object; rows are arrays in the order of the columns."""
    return ENCODER.encode(answer)


def as_csv(answer: Answer) -> bytes:
    """RFC 4180 with a header; an absent value is empty."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(column.name for column in answer.columns)
    writer.writerows([cell(value) for value in row] for row in answer.rows)
    return out.getvalue().encode()


def as_arrow(answer: Answer) -> bytes:
    """An IPC stream. `numeric` becomes double, what Arrow has no type for becomes text."""
    arrays = [
        _array(column.type, [row[index] for row in answer.rows])
        for index, column in enumerate(answer.columns)
    ]
    table = pa.Table.from_arrays(arrays, names=[column.name for column in answer.columns])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


FORMS = {JSON: as_json, CSV: as_csv, ARROW: as_arrow}


def cell(value: object) -> object:
    """A value as text for CSV and terminals."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, str | int | float | Decimal):
        return value
    return ENCODER.encode(value).decode().strip('"')


def size(rows: Iterable[tuple[Any, ...]]) -> int:
    """Roughly the bytes of the rows' values."""
    return sum(_size(value) for row in rows for value in row)


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return 8 + sum(_size(item) for item in value)
    if isinstance(value, dict):
        return 8 + sum(_size(item) for pair in value.items() for item in pair)
    return 8


def _array(kind: str, values: list[Any]) -> pa.Array:
    if kind.endswith("[]"):
        item = ARROW_TYPES.get(kind[:-2], pa.string())
        wanted = pa.list_(item)
    else:
        wanted = item = ARROW_TYPES.get(kind, pa.string())
    try:
        if pa.types.is_string(item):
            values = [value if value is None else _text(value) for value in values]
            wanted = pa.string()
        elif kind.startswith("numeric"):
            values = [_floats(value) for value in values]
        return pa.array(values, type=wanted)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as exc:
        raise QueryRefused(f"sql: a value of type {kind} has no Arrow form ({exc}).") from None


def _text(value: object) -> str:
    return str(cell(value))


def _floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return None if value is None else float(value)
