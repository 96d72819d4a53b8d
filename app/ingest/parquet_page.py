"""Parquet page headers, which say what a page unfolds to before anything unfolds.

They are structs of Thrift's compact protocol; only the fields named here are kept, all others are stepped
over.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

# types of the compact protocol
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
DEEPEST = 8

# fields of PageHeader: number -> where its struct has the encoding
UNFOLDED, FOLDED = 2, 3
ENCODING = {5: 2, 7: 2, 8: 4}


class Page(msgspec.Struct, frozen=True):
    """One page."""

    unfolded: int
    """Bytes, as the header says."""
    encoding: int | None


def pages(body: bytes, chunk: Any) -> Iterator[Page]:
    """The pages of a column chunk (pyarrow's ColumnChunkMetaData). Raises ValueError."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
        start = chunk.dictionary_page_offset
    end = start + chunk.total_compressed_size
    if not 0 <= start <= end <= len(body):
        raise ValueError("a column lies outside the file")
    reader = _Compact(body, start, end)
    while reader.at < end:
        header = reader.struct()
        unfolded, folded = header.get(UNFOLDED), header.get(FOLDED)
        if (
            not isinstance(unfolded, int)
            or not isinstance(folded, int)
            or min(unfolded, folded) < 0
        ):
            raise ValueError("a page says no size")
        encodings = [
            inner.get(ENCODING[number])
            for number, inner in header.items()
            if number in ENCODING and isinstance(inner, dict)
        ]
        yield Page(unfolded, next(iter(encodings), None))
        reader.at += folded


class _Compact:
    """Reads structs; strings and containers count as None."""

    def __init__(self, body: bytes, at: int, end: int) -> None:
        self.body = body
        self.at = at
        self.end = end

    def byte(self) -> int:
        if self.at >= self.end:
            raise ValueError("a page header is cut off")
        self.at += 1
        return self.body[self.at - 1]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a page header has an endless number")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > DEEPEST:
            raise ValueError("a page header is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while first := self.byte():
            number = number + (first >> 4) if first >> 4 else self.zigzag()
            fields[number] = self.value(first & 15, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == BYTE:
            return self.byte()
        if kind in (I16, I32, I64):
            return self.zigzag()
        if kind == DOUBLE:
            self.at += 8
        elif kind == BINARY:
            length = self.varint()  # moves `at`, too
            self.at += length
        elif kind in (LIST, SET):
            self.items(depth)
        elif kind == STRUCT:
            return self.struct(depth + 1)
        else:  # page headers have no maps
            raise ValueError("a page header has a field of unknown type")
        return None

    def items(self, depth: int) -> None:
        first = self.byte()
        count = first >> 4 if first >> 4 < 15 else self.varint()
        if count > self.end - self.at:
            raise ValueError("a page header is cut off")
        for _ in range(count):
            self.value(first & 15, depth + 1)
