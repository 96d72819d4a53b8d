"""Values as PostgreSQL sends them: as texts the way the server writes them, or binary.

The server said the column's type and form; a value that has none of these is an honest error.
"""

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import Format

from app.errors import QueryRefused
from app.relay.wire import DATA_ROW, NULL, Field

Encode = Callable[[Any], bytes]
_DAY = timedelta(days=1)
_ROW = struct.Struct(">BIH")
_SIZE = struct.Struct(">I")
QUOTED = frozenset('"\\{},')


def rows_of(fields: list[Field]) -> Callable[[list[tuple[Any, ...]]], bytes]:
    """Writes rows with these columns. Raises QueryRefused for a type that can't be sent."""
    encoders = [_encoder(field) for field in fields]
    count = len(fields)

    def write(rows: list[tuple[Any, ...]]) -> bytes:
        out: list[bytes] = []
        for row in rows:
            parts: list[bytes] = []
            for encode, value in zip(encoders, row, strict=False):  # none: rows without columns
                if value is None:
                    parts.append(NULL)
                else:
                    cell = encode(value)
                    parts += (_SIZE.pack(len(cell)), cell)
            body = b"".join(parts)
            out += (_ROW.pack(DATA_ROW, len(body) + 6, count), body)
        return b"".join(out)

    return write


def text_of(oid: int) -> Encode | None:
    """How values of a type are written as texts; None: they are not."""
    kind = psycopg.adapters.types.get(oid)
    encode = TEXTS.get(kind.name) if kind is not None else None
    if kind is not None and encode is not None and oid == kind.array_oid:
        return _array(encode)
    return encode


def _binary_of(oid: int) -> Encode | None:
    kind = psycopg.adapters.types.get(oid)
    if kind is None or kind.name not in TEXTS:
        return None
    dumper = psycopg.adapters.get_dumper_by_oid(kind.oid, Format.BINARY)(object, Transformer())

    def encode(value: Any) -> bytes:
        return bytes(dumper.dump(value) or b"")

    return _binary_array(kind.oid, encode) if oid == kind.array_oid else encode


def _encoder(field: Field) -> Encode:
    encode = _binary_of(field.oid) if field.is_binary else text_of(field.oid)
    if encode is None:
        form = "binary" if field.is_binary else "text"
        raise QueryRefused(
            f"sql: the column {field.name} can't be sent as {form}; cast it to text."
        )
    return encode


def _bool(value: bool) -> bytes:
    return b"t" if value else b"f"


def _plain(value: object) -> bytes:
    return str(value).encode()


def _float(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    if math.isinf(value):
        return b"Infinity" if value > 0 else b"-Infinity"
    text = repr(value)
    if abs(value) >= 1e15 and "e" not in text:
        digits, _, fraction = text.lstrip("-").partition(".")
        tail = (digits[1:] + fraction).rstrip("0")
        sign = "-" if value < 0 else ""
        return f"{sign}{digits[0]}{'.' if tail else ''}{tail}e+{len(digits) - 1}".encode()
    return text.removesuffix(".0").encode()


def _real(value: float) -> bytes:
    """The shortest digits that mean the same in four bytes."""
    if not math.isfinite(value):
        return _float(value)
    short = next(
        (
            text
            for text in (f"{value:.{digits}g}" for digits in range(6, 9))
            if struct.pack(">f", float(text)) == struct.pack(">f", value)
        ),
        f"{value:.9g}",
    )
    return short.encode()


def _numeric(value: Decimal) -> bytes:
    return b"NaN" if value.is_nan() else f"{value:f}".encode()


def _clock(text: str) -> bytes:
    return (text.rstrip("0") if "." in text else text).encode()


def _time(value: time) -> bytes:
    return _clock(value.isoformat())


def _timestamp(value: datetime) -> bytes:
    return _clock(value.isoformat(" "))


def _instant(value: datetime) -> bytes:
    return _clock(value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")) + b"+00"


def _interval(value: timedelta) -> bytes:
    sign = "-" if value < timedelta(0) else ""
    days, rest = divmod(abs(value), _DAY)
    parts = [f"{sign}{days} day{'' if days == 1 and not sign else 's'}"] if days else []
    if rest or not days:
        parts.append(sign + _clock(str((datetime.min + rest).time())).decode())
    return " ".join(parts).encode()


def _array(encode: Encode) -> Encode:
    def item(value: Any) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, list):
            return write(value).decode()
        text = encode(value).decode()
        is_bare = text and not QUOTED & set(text) and not any(map(str.isspace, text))
        if is_bare and text.upper() != "NULL":
            return text
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def write(values: list[Any]) -> bytes:
        return ("{" + ",".join(map(item, values)) + "}").encode()

    return write


def _binary_array(oid: int, encode: Encode) -> Encode:
    def write(values: list[Any]) -> bytes:
        head = struct.pack(">iiI", bool(values), None in values, oid)
        sizes = struct.pack(">ii", len(values), 1) if values else b""
        cells = (encode(value) if value is not None else None for value in values)
        return b"".join(
            (head, sizes, *(NULL if c is None else _SIZE.pack(len(c)) + c for c in cells))
        )

    return write


TEXTS: dict[str, Encode] = {
    "bool": _bool,
    "int2": _plain,
    "int4": _plain,
    "int8": _plain,
    "float4": _real,
    "float8": _float,
    "numeric": _numeric,
    "text": _plain,
    "varchar": _plain,
    "date": _plain,
    "time": _time,
    "timestamp": _timestamp,
    "timestamptz": _instant,
    "interval": _interval,
    "uuid": _plain,
}
