"""Parquet files, in the long or wide form of table.py.

A small file may unfold to gigabytes: by compression, by a dictionary of long texts that every row points
to, by texts that share their beginnings. So every page header is read first; what the pages unfold to is
counted, text columns stay dictionaries, and text encodings that can't become one are refused.
"""

import pyarrow as pa
import pyarrow.parquet

from app.errors import BodyTooLarge, MalformedBody
from app.ingest.columns import Columns
from app.ingest.limits import Limits
from app.ingest.parquet_page import Page, pages
from app.ingest.table import BROKEN, MAX_COLUMNS, columns_of

TEXT_ENCODINGS = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}
MAX_CHUNKS = 20_000


def decode_parquet(body: bytes, limits: Limits) -> Columns:
    """A Parquet file. Raises MalformedBody, BodyTooLarge, TooManyReadings."""
    try:
        with _open(body) as file:
            groups = _check(file, body, limits)
            texts = [
                file.schema.column(number).name
                for number in range(len(file.schema))
                if file.schema.column(number).physical_type == "BYTE_ARRAY"
            ]
        with _open(body, texts) as file:
            table = file.read_row_groups(groups, use_threads=False)
        table.validate(full=True)
        return columns_of(table, limits)
    except BROKEN as exc:
        raise MalformedBody(f"The body is no valid Parquet file: {str(exc)[:200]}.") from None


def _open(body: bytes, dictionaries: list[str] | None = None) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(
        pa.BufferReader(body),
        read_dictionary=dictionaries,
        thrift_string_size_limit=1 << 20,
        thrift_container_size_limit=100_000,
    )


def _check(file: pyarrow.parquet.ParquetFile, body: bytes, limits: Limits) -> list[int]:
    """The row groups that may be read: all but those without rows, whose pages lie nowhere."""
    metadata, schema = file.metadata, file.schema
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    counts = [group.num_rows for group in groups]
    if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
        raise MalformedBody("The Parquet file's row groups do not have the rows it says.")
    limits.check(metadata.num_rows)
    if len(schema) > MAX_COLUMNS or len(schema) * len(groups) > MAX_CHUNKS:
        raise MalformedBody("The Parquet file has too many columns or row groups.")
    for number in range(len(schema)):
        column = schema.column(number)
        if column.max_repetition_level or column.path != column.name:
            raise MalformedBody(f"Column {column.path[:60]!r} is nested; send plain columns.")
    size = 0
    filled = [number for number, count in enumerate(counts) if count]
    for group in filled:
        for number in range(len(schema)):
            for page in pages(body, groups[group].column(number)):
                _check_page(page)
                size += page.unfolded
                if size > limits.max_bytes:
                    raise BodyTooLarge(
                        f"The file unfolds to more than {limits.max_bytes} bytes; send several.",
                        limit_bytes=limits.max_bytes,
                    )
    return filled


def _check_page(page: Page) -> None:
    name = TEXT_ENCODINGS.get(page.encoding or 0)
    if name is not None:
        raise MalformedBody(
            f"The Parquet file has {name} pages; write texts with dictionaries or plain."
        )
