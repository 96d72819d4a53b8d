"""Pieces in any order become batches in order, with every reading in exactly one of them."""

import numpy as np
import pytest

from app.archive import spill as module
from app.archive.piece import Pieces
from app.archive.spill import Batch, Spill

Row = tuple[int, int, int, float, int]


def pieces_of(series: dict[tuple[int, int], list[tuple[int, float, int]]]) -> Pieces:
    keys = list(series)
    readings = [row for key in keys for row in series[key]]
    return Pieces(
        sensor=np.array([key[0] for key in keys], dtype=np.int64),
        metric=np.array([key[1] for key in keys], dtype=np.int16),
        count=np.array([len(series[key]) for key in keys], dtype=np.int64),
        ts=np.array([row[0] for row in readings], dtype=np.int64),
        value=np.array([row[1] for row in readings], dtype=np.float64),
        quality=np.array([row[2] for row in readings], dtype=np.int16),
    )


def rows_of(batch: Batch) -> list[Row]:
    columns = (batch.sensor, batch.metric, batch.ts, batch.value, batch.quality)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("batch_rows", [1, 7, 50, 10_000])
@pytest.mark.parametrize("late", [0.0, 0.02, 0.5])
def test_batches_are_sorted_and_whole(
    monkeypatch: pytest.MonkeyPatch, batch_rows: int, late: float
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", batch_rows)
    rng = np.random.default_rng(4)
    truth: list[Row] = []
    with Spill() as spill:
        # as pages of a row store: every series in every one, some readings out of their time
        for page in range(5):
            series: dict[tuple[int, int], list[tuple[int, float, int]]] = {}
            for sensor in rng.permutation(np.arange(1, 7)).tolist():
                for metric in (1, 2):
                    times = page * 1000 + np.arange(20) * 7 + metric
                    times = np.where(rng.random(20) < late, times + 2_000 + sensor * 20_000, times)
                    rows = [(int(t), float(rng.normal()), 2) for t in dict.fromkeys(times.tolist())]
                    series[sensor, metric] = rows
                    truth += [(sensor, metric, *row) for row in rows]
            spill.add(pieces_of(series))
        batches = [rows_of(batch) for batch in spill.batches(spill.index())]
    found = [row for batch in batches for row in batch]
    assert found == sorted(truth)
    if batch_rows == 50 and not late:
        assert len(batches) > 5


def test_some_series_alone() -> None:
    with Spill() as spill:
        spill.add(pieces_of({(2, 1): [(5, 1.0, 2), (6, 2.0, 3)], (1, 1): [(5, 3.0, 2)]}))
        index = spill.index()
        (batch,) = spill.batches(index.where(np.flatnonzero(index.sensor == 2)))
    assert rows_of(batch) == [(2, 1, 5, 1.0, 2), (2, 1, 6, 2.0, 3)]


def test_nothing_gives_no_batch() -> None:
    with Spill() as spill:
        assert list(spill.batches(spill.index())) == []
