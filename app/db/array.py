"""Numpy arrays as query parameters: one buffer in PostgreSQL's binary array format, no object an element.

psycopg's own road by way of lists costs a microsecond an element.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import adapters
from psycopg.abc import AdaptContext, Buffer, DumperKey, PyFormat
from psycopg.adapt import Dumper
from psycopg.pq import Format

HEAD = struct.Struct("!5i")
OIDS = {
    "i2": (21, 1005), "i4": (23, 1007), "i8": (20, 1016), "f8": (701, 1022), "M8": (1184, 1185)
}  # fmt: skip
"""Type -> oid of the element, oid of the array; M8: datetime64[us], in UTC."""
POSTGRES_EPOCH = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where PostgreSQL's clock begins."""


class ArrayDumper(Dumper):
    """One-dimensional arrays of the types above, without nulls."""

    format = Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._kind = ""

    def get_key(self, obj: NDArray[np.generic], format: PyFormat) -> DumperKey:
        return self.cls, obj.dtype.type

    def upgrade(self, obj: NDArray[np.generic], format: PyFormat) -> "ArrayDumper":
        dumper = ArrayDumper(self.cls)
        dumper._kind = f"{obj.dtype.kind}{obj.dtype.itemsize}"
        dumper.oid = OIDS[dumper._kind][1]
        return dumper

    def dump(self, obj: NDArray[np.generic]) -> Buffer:
        is_time = self._kind == "M8"
        kind = "i8" if is_time else self._kind
        items = np.empty(len(obj), dtype=[("length", ">i4"), ("item", f">{kind}")])
        items["length"] = obj.dtype.itemsize
        items["item"] = obj.view(np.int64) - POSTGRES_EPOCH if is_time else obj
        return HEAD.pack(1, 0, OIDS[self._kind][0], len(obj), 1) + items.tobytes()


def items_of(data: Buffer | None, kind: str) -> NDArray[Any]:
    """A one-dimensional array without nulls as it came in binary; None: no items."""
    is_time = kind == "M8"
    if data is None or HEAD.size > len(data):  # an empty one has no dimension
        return np.zeros(0, dtype="M8[us]" if is_time else kind)
    plain = "i8" if is_time else kind
    raw = np.frombuffer(data, dtype=[("length", ">i4"), ("item", f">{plain}")], offset=HEAD.size)
    items = raw["item"].astype(plain)
    return (items + POSTGRES_EPOCH).view("M8[us]") if is_time else items


def literal(items: NDArray[np.number[Any]] | list[int] | list[str]) -> str:
    """Numbers, or their texts, as an array in the text of a statement."""
    numbers = items if isinstance(items, list) else items.tolist()
    return "'{" + ",".join(map(str, numbers)) + "}'"


def register() -> None:
    """Let every connection take arrays."""
    adapters.register_dumper(np.ndarray, ArrayDumper)
