"""What a query found, and its three forms: JSON, CSV, Arrow.

An answer is whole before its first byte is sent: its rows and bytes are capped, so it fits in memory,
and a failure in the middle can still be said properly.
"""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from app.errors import QueryRefused
from app.settings import Settings

BATCH_BYTES = 1_000_000
MOST_BATCH_ROWS = 5_000

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


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, or was to be: in the database the plan's estimate, in the archive whole files.

    Estimates have one digit: exact ones would tell of others' rows. The files are the tenant's own.
    """

    cost: float
    rows: float
    cold_files: int = 0
    cold_rows: int = 0
    cold_bytes: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a query found."""

    columns: list[Column]
    rows: list[tuple[Any, ...]]
    row_count: int
    truncated: bool
    """There are more rows than were asked for or may be sent."""
    engine: str
    """`postgresql`, or `duckdb` where the query reaches readings that are archived."""
    scanned: Scanned
    seconds: float


class Sink(Protocol):
    """Where rows go, batch by batch, from a thread."""

    @property
    def room(self) -> int:
        """How many rows to fetch next."""

    def add(self, batch: list[tuple[Any, ...]]) -> bool:
        """Whether more may be added; an empty batch is the end."""

    def close(self) -> None:
        """Nobody wants more: whoever waits in `add` shall not."""


class Basket:
    """Rows up to the caps."""

    @classmethod
    def of(cls, limit: int, settings: Settings) -> "Basket":
        """With the caps of the settings, and the caller's own."""
        return cls(limit=min(limit, settings.sql_max_rows), max_bytes=settings.sql_max_bytes)

    def __init__(self, *, limit: int, max_bytes: int) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.is_truncated = False
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._step = 100

    @property
    def room(self) -> int:
        """How many rows to fetch next; one more than may be kept tells that there are more."""
        return min(self._step, self._limit + 1 - len(self.rows))

    def add(self, batch: list[tuple[Any, ...]]) -> bool:
        """Whether more may be added."""
        self.rows += batch
        self._bytes += size(batch)
        if len(self.rows) > self._limit:
            self.is_truncated = True
            del self.rows[self._limit :]
            return False
        if not batch:
            return False
        if self._bytes > self._max_bytes:
            self.is_truncated = True
            while self._bytes > self._max_bytes and self.rows:
                self._bytes -= size((self.rows.pop(),))
            return False
        each = max(1, self._bytes // len(self.rows))
        self._step = max(1, min(MOST_BATCH_ROWS, BATCH_BYTES // each))
        return True

    def close(self) -> None:
        """Nobody ever waits for room here."""


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
