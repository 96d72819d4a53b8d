"""Numpy arrays in PostgreSQL's binary format are what psycopg would send of a list."""

import numpy as np
import pytest
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.numeric import Int8

from app.db import array

array.register()


@pytest.mark.parametrize(
    ("kind", "oid"), [(np.int16, 1005), (np.int32, 1007), (np.int64, 1016), (np.float64, 1022)]
)
def test_each_type_has_its_array_type(kind: type[np.generic], oid: int) -> None:
    values = np.array([1, 2, -3], dtype=kind)
    dumper = Transformer().get_dumper(values, PyFormat.AUTO)
    assert dumper.oid == oid


def test_bytes_are_those_of_a_list() -> None:
    numbers = [5, -(2**40), 0]
    ours = Transformer().get_dumper(np.array(numbers), PyFormat.BINARY)
    theirs = Transformer().get_dumper([Int8(n) for n in numbers], PyFormat.BINARY)
    assert ours.dump(np.array(numbers)) == theirs.dump([Int8(n) for n in numbers])


def test_slices_and_empty_arrays_keep_their_values() -> None:
    numbers = np.arange(10, dtype=np.int64)[::3]
    dumper = Transformer().get_dumper(numbers, PyFormat.BINARY)
    data = dumper.dump(numbers)
    assert data is not None
    items = np.frombuffer(data, dtype=[("length", ">i4"), ("item", ">i8")], offset=20)
    assert items["item"].tolist() == [0, 3, 6, 9]
    empty = dumper.dump(numbers[:0])
    assert empty is not None
    assert len(empty) == 20
