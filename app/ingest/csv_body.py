"""CSV with a header line, in the long or wide form of table.py.

Separated by commas, quoted as RFC 4180 says, UTF-8, with or without a byte order mark. An empty cell is
no value. The index counts rows from 0, without the header and blank lines.
"""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.csv

from app.errors import MalformedBody
from app.ingest.columns import Columns
from app.ingest.limits import Limits
from app.ingest.table import BROKEN, check_names, columns_of
from app.ingest.verdict import Verdict

MARK = b"\xef\xbb\xbf"
WORDS = ("sensor", "metric", "unit")
MAX_HEADER = 65_536


def decode_csv(body: bytes, limits: Limits) -> Columns:
    """A CSV body. Raises MalformedBody, TooManyReadings."""
    if not body.isascii():
        _check_text(body)
    header, _, rest = body.removeprefix(MARK).partition(b"\n")
    names = _names(header)
    is_long = check_names([name.strip().lower() for name in names])
    rest = rest.strip(b"\r\n")
    if not rest:
        return _nothing()
    limits.check(rest.count(b"\n") + 1)
    odd: list[tuple[int, int]] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        odd.append((row.number, row.actual_columns))
        return "skip"

    word = pa.dictionary(pa.int32(), pa.string())
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(rest),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(rest) + 1, column_names=names
            ),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=note),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={
                    name: word
                    if name.strip().lower() in WORDS[: 3 if is_long else 1]
                    else pa.string()
                    for name in names
                },
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        columns = columns_of(table, limits, is_text=True)
    except BROKEN as exc:
        raise MalformedBody(f"The body is no valid CSV: {str(exc)[:200]}.") from None
    return _with_odd_rows(columns, odd, len(names), table.num_rows)


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"The body is not valid UTF-8 (byte {exc.start}).") from None


def _names(header: bytes) -> list[str]:
    """The header's column names."""
    if len(header) > MAX_HEADER:
        raise MalformedBody(f"The header line is longer than {MAX_HEADER} bytes.")
    try:
        return next(csv.reader([header.decode().rstrip("\r")], strict=True), [])
    except csv.Error as exc:
        raise MalformedBody(f"The header line is no valid CSV: {exc}.") from None


def _nothing() -> Columns:
    none = np.zeros(0, dtype=np.int64)
    return Columns([], [], none.astype(np.int32), none.astype(np.int32), none, np.zeros(0), none)


def _with_odd_rows(
    columns: Columns, odd: list[tuple[int, int]], width: int, n_rows: int
) -> Columns:
    """Reject the rows of another width, which the parser left out, and number the others by the body."""
    if not odd:
        return columns
    total = n_rows + len(odd)
    is_odd = np.zeros(total, dtype=np.bool_)
    is_odd[[number - 1 for number, _ in odd]] = True
    row_of = np.flatnonzero(~is_odd)

    def moved(index: int) -> int:
        number, row = divmod(index, n_rows)
        return number * total + int(row_of[row])

    number, row = np.divmod(columns.index, max(n_rows, 1))
    columns.index = number * total + row_of[row] if n_rows else columns.index
    columns.rejected = [
        Verdict(moved(verdict.index), verdict.verdict, verdict.field, verdict.reason)
        for verdict in columns.rejected
    ] + [
        Verdict(number - 1, "rejected", "row", f"has {cells} cells for {width} columns")
        for number, cells in odd
    ]
    return columns
