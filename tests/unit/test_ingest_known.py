"""A batch as a grid of times, sensors and metrics: the same verdicts as by sorting."""

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.adapt import PyFormat

from app.db.array import ArrayDumper, items_of
from app.ingest.batch import Batch
from app.ingest.known import FEW, Grid, first_of_each


def batch_of(ts: list[int], sensor_id: list[int], metric_id: list[int]) -> Batch:
    n = len(ts)
    return Batch(
        sensor_id=np.array(sensor_id, dtype=np.int64),
        metric_id=np.array(metric_id, dtype=np.int16),
        ts=np.array(ts, dtype=np.int64),
        value=np.zeros(n),
        quality=np.full(n, 2, dtype=np.int16),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_first_of_each_is_the_one_that_sorting_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = batch_of(*(rng.integers(0, 4, 60).tolist() for _ in range(3)))
    grid = Grid.of(batch)
    assert grid is not None
    assert grid.first_of_each().tolist() == first_of_each(batch).tolist()


def test_readings_that_share_nothing_are_no_grid() -> None:
    n = 50
    assert n**3 > FEW
    numbers = list(range(n))
    assert Grid.of(batch_of(numbers, numbers, numbers)) is None


def test_a_cell_says_time_sensor_and_metric() -> None:
    batch = batch_of([10, 20, 10, 20], [7, 7, 9, 9], [1, 2, 1, 2])
    grid = Grid.of(batch)
    assert grid is not None
    assert len(set(grid.cell.tolist())) == 4
    again = grid.cell_of(batch.ts[2:], batch.sensor_id[2:], batch.metric_id[2:])
    assert again.tolist() == grid.cell[2:].tolist()


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        ("i2", np.array([1, -2], dtype=np.int16)),
        ("i8", np.array([1 << 40, -2], dtype=np.int64)),
        ("f8", np.array([0.1, -1e300])),
        ("M8", np.array(["2026-11-21T02:00:00.000001", "1969-12-31"], dtype="M8[us]")),
    ],
)
def test_arrays_come_back_as_they_went(kind: str, items: NDArray[np.generic]) -> None:
    dumper = ArrayDumper(np.ndarray)
    data = dumper.upgrade(items, PyFormat.BINARY).dump(items)
    assert items_of(data, kind).tolist() == items.tolist()


def test_no_array_has_no_items() -> None:
    assert items_of(None, "M8").tolist() == []
