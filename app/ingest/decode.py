"""JSON bodies to Columns: rows, columnar, NDJSON.

Two roads. The fast one (rows.py, columnar.py) decodes with a type and fails as a whole on anything
unexpected. Then the lenient one (lenient.py) decodes again without types, so that one wrong value never
costs its neighbours.
"""

import msgspec

from app.ingest.columnar import ITEM, ITEMS, WRAPPED, Item, from_columnar
from app.ingest.columns import Columns
from app.ingest.lenient import elements_of, from_objects, line_of, loads
from app.ingest.limits import Limits
from app.ingest.rows import ROW, ROWS, WRAPPED_ROWS, Row, columns_of


def decode_json(body: bytes, limits: Limits) -> Columns:
    """A JSON body. Raises MalformedBody, TooManyReadings."""
    try:
        if b'"metrics"' in body:
            return from_columnar(_items(body), limits)
        found = ROWS.decode(body) if body.lstrip()[:1] == b"[" else _rows(body)
        limits.check(len(found))
        return columns_of(found, limits.precision)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return from_objects(elements_of(loads(body)), limits)


def _items(body: bytes) -> list[Item]:
    if body.lstrip()[:1] == b"[":
        return ITEMS.decode(body)
    wrapped = WRAPPED.decode(body)
    if wrapped.series is not None:
        return wrapped.series
    return [ITEM.decode(body)] if wrapped.readings is None else wrapped.readings


def _rows(body: bytes) -> list[Row]:
    """One reading, or a list of them under a name."""
    try:
        return [ROW.decode(body)]
    except msgspec.ValidationError:
        return WRAPPED_ROWS.decode(body).readings


def decode_lines(body: bytes, limits: Limits) -> Columns:
    """NDJSON: one reading, or one sensor's columns, a line."""
    try:
        if b'"metrics"' in body:
            return from_columnar(ITEM.decode_lines(body), limits)
        rows = ROW.decode_lines(body)
        limits.check(len(rows))
        return columns_of(rows, limits.precision)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines = [line for line in body.split(b"\n") if line.strip()]
        limits.check(len(lines))
        return from_objects([line_of(line) for line in lines], limits)
