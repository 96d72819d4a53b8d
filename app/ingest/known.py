"""Which readings of a batch are stored already, or come twice in it.

A gateway's batch is a grid: few times, its sensors, its metrics. Then one look by three arrays finds
what is stored, since the index leads from one match to the next; where nothing is stored it costs as good
as nothing. Other batches are put into a temporary table and joined, an index probe a reading.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.db.array import items_of
from app.db.copying import copy
from app.db.pool import Connection
from app.db.queries import queries
from app.ingest.batch import COPY_STAGED, Batch
from app.ingest.shard import Target
from app.ingest.verdict import Code

STAGED_TABLE = queries("ingest")["staged_table"]
DAY_US = 86_400_000_000
SPARSE, FEW = 8, 4_096
"""A grid has at most so many cells a reading, or so many in all."""

Codes = NDArray[np.uint8]


async def known(connection: Connection, target: Target, batch: Batch) -> Codes:
    """STORED for each reading to be stored, DUPLICATE or CONFLICT for each that can't be."""
    grid = Grid.of(batch)
    if grid is None:
        codes = await _staged(connection, target, batch)
        first = first_of_each(batch)
    else:
        codes = await _looked_up(connection, target, batch, grid)
        first = grid.first_of_each()
    again = np.flatnonzero((first != np.arange(len(batch))) & (codes == Code.STORED))
    if again.size:  # the same reading twice in one batch: the first one counts
        is_same = batch.value[again] == batch.value[first[again]]
        codes[again] = np.where(is_same, Code.DUPLICATE, Code.CONFLICT)
    return codes


@dataclass
class Grid:
    """Distinct times, sensors and metrics, and the cell among them that each reading is in."""

    ts: NDArray[np.int64]
    sensor_id: NDArray[np.int64]
    metric_id: NDArray[np.int16]
    cell: NDArray[np.intp]

    @classmethod
    def of(cls, batch: Batch) -> "Grid | None":
        """None where most of the cells would be empty."""
        axes = np.unique(batch.ts), np.unique(batch.sensor_id), np.unique(batch.metric_id)
        if np.prod([len(axis) for axis in axes]) > max(SPARSE * len(batch), FEW):
            return None
        grid = cls(*axes, np.zeros(0, dtype=np.intp))
        grid.cell = grid.cell_of(batch.ts, batch.sensor_id, batch.metric_id)
        return grid

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.ts) * len(self.sensor_id) * len(self.metric_id)

    def cell_of(
        self, ts: NDArray[np.int64], sensor_id: NDArray[np.int64], metric_id: NDArray[np.int16]
    ) -> NDArray[np.intp]:
        """Where readings of the grid's times, sensors and metrics lie."""
        line = np.searchsorted(self.ts, ts) * len(self.sensor_id)
        line += np.searchsorted(self.sensor_id, sensor_id)
        return line * len(self.metric_id) + np.searchsorted(self.metric_id, metric_id)

    def first_of_each(self) -> NDArray[np.intp]:
        """For each reading the position of the first one in its cell."""
        first = np.empty(self.size, dtype=np.intp)
        position = np.arange(len(self.cell))
        first[self.cell[::-1]] = position[::-1]  # of several the last to be put stays
        return first[self.cell]


async def _looked_up(connection: Connection, target: Target, batch: Batch, grid: Grid) -> Codes:
    held = np.full(grid.size, np.nan)  # no stored value is one
    for first_us, last_us, _ in zip(*stretches(grid.ts), strict=True):
        ts = grid.ts[(grid.ts >= first_us) & (grid.ts <= last_us)]
        cursor = await connection.execute(
            target.sql["grid_known"],
            {
                "ts": ts.view("M8[us]"),
                "sensor_ids": grid.sensor_id,
                "metric_ids": grid.metric_id,
                "first_us": first_us,
                "last_us": last_us,
            },
            prepare=False,
            binary=True,
        )
        found = cursor.pgresult
        assert found is not None
        at, sensor_id, metric_id, value = (
            items_of(found.get_value(0, number), kind)
            for number, kind in enumerate(("M8", "i8", "i2", "f8"))
        )
        held[grid.cell_of(at.view(np.int64), sensor_id, metric_id)] = value
    codes = np.full(len(batch), Code.STORED, dtype=np.uint8)
    stored = held[grid.cell]
    is_known = ~np.isnan(stored)
    if is_known.any():
        is_same = stored == batch.value
        codes[is_known] = np.where(is_same[is_known], Code.DUPLICATE, Code.CONFLICT)
    return codes


async def _staged(connection: Connection, target: Target, batch: Batch) -> Codes:
    codes = np.full(len(batch), Code.STORED, dtype=np.uint8)
    if connection.is_pooled:  # which session has it already is the pooler's secret
        await connection.execute(STAGED_TABLE)
    await copy(connection, (COPY_STAGED, batch.copy_staged()))
    # one index probe a reading; any other join would read all there is in the batch's span of time
    await connection.execute(target.sql["staged_plan_begin"])
    for first_us, last_us, _ in zip(*stretches(batch.ts), strict=True):
        cursor = await connection.execute(
            target.sql["staged_known"],
            {"first_us": first_us, "last_us": last_us},
            prepare=False,
            binary=True,
        )
        row = await cursor.fetchone()
        assert row is not None
        codes[row[0]] = Code.DUPLICATE
        codes[row[1]] = Code.CONFLICT
    await connection.execute(target.sql["staged_plan_end"])
    return codes


def first_of_each(batch: Batch) -> NDArray[np.intp]:
    """For each reading the position of the first with the same sensor, metric and time."""
    order = np.lexsort((batch.metric_id, batch.sensor_id, batch.ts))  # stable
    is_new = np.ones(len(order), dtype=np.bool_)
    is_new[1:] = (
        (np.diff(batch.ts[order]) != 0)
        | (np.diff(batch.sensor_id[order]) != 0)
        | (np.diff(batch.metric_id[order]) != 0)
    )
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
    return first


def stretches(ts: NDArray[np.int64]) -> tuple[list[int], list[int], list[int]]:
    """First and last time (microseconds) and number of readings of each UTC day in a batch."""
    low, high = int(ts.min()), int(ts.max())
    if low // DAY_US == high // DAY_US:  # as good as always
        return [low], [high], [len(ts)]
    days, numbers = np.unique(ts // DAY_US, return_inverse=True)
    first = np.full(len(days), np.iinfo(np.int64).max)
    last = np.full(len(days), np.iinfo(np.int64).min)
    np.minimum.at(first, numbers, ts)
    np.maximum.at(last, numbers, ts)
    return first.tolist(), last.tolist(), np.bincount(numbers, minlength=len(days)).tolist()
