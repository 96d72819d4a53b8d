"""The newest reading of each datastream, found once per request."""

import numpy as np

from app.ingest.batch import Batch, join
from app.ingest.columns import Columns
from app.ingest.latest import _newest
from app.ingest.resolve import _newest_of_each


def columns(sensor_no: list[int], channel_no: list[int], ts: list[int]) -> Columns:
    n = len(ts)
    return Columns(
        sensors=["a", "b"],
        channels=[("ph", None), ("temp", None)],
        sensor_no=np.array(sensor_no, dtype=np.int32),
        channel_no=np.array(channel_no, dtype=np.int32),
        ts=np.array(ts, dtype=np.int64),
        value=np.zeros(n),
        index=np.arange(n),
    )


def newest(*args: list[int]) -> list[int]:
    found = _newest_of_each(columns(*args))
    assert found is not None
    return sorted(found.tolist())


def test_last_in_order_of_time() -> None:
    assert newest([0, 1, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 2, 2, 2]) == [2, 3, 4]


def test_order_of_the_body_does_not_matter() -> None:
    assert newest([0, 0, 0], [0, 0, 0], [3, 9, 5]) == [1]


def test_joined_batches_keep_their_positions() -> None:
    def batch(ts: list[int]) -> Batch:
        n = len(ts)
        return Batch(
            sensor_id=np.ones(n, dtype=np.int64),
            metric_id=np.ones(n, dtype=np.int16),
            ts=np.array(ts, dtype=np.int64),
            value=np.array(ts, dtype=np.float64),
            quality=np.full(n, 2, dtype=np.int16),
            newest=np.array([int(np.argmax(ts))]),
        )

    joined = join([batch([1, 5]), batch([9, 2])])
    assert joined.newest is not None
    assert _newest(joined.where(joined.newest)).ts.tolist() == [9]
