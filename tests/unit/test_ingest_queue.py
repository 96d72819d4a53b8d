"""What a writer takes of what waits."""

import asyncio

import numpy as np
import pytest

from app.ingest.batch import Batch
from app.ingest.queue import SMALL, Queue, Submission


def submission(size: int) -> Submission:
    batch = Batch(
        sensor_id=np.ones(size, dtype=np.int64),
        metric_id=np.ones(size, dtype=np.int16),
        ts=np.arange(size, dtype=np.int64),
        value=np.zeros(size),
        quality=np.full(size, 2, dtype=np.int16),
    )
    return Submission(batch, asyncio.get_running_loop().create_future(), size)


def sizes(group: list[Submission]) -> list[int]:
    return [len(one.batch) for one in group]


@pytest.mark.parametrize(
    ("most", "is_small_only", "taken", "left"),
    [
        (50_000, False, [1, 2, 10_000, 5_000], 0),
        (50_000, True, [1, 2], 15_000),
        (500, False, [1, 2], 15_000),
        (2, True, [1], 15_002),
        (0, False, [1], 15_002),
    ],
)
def test_small_submissions_come_first_and_are_not_kept_by_large_ones(
    most: int, is_small_only: bool, taken: list[int], left: int
) -> None:
    async def run() -> None:
        queue = Queue()
        for size in (10_000, 1, 5_000, 2):
            queue.put(submission(size))
        assert sizes(queue.take(most, is_small_only=is_small_only)) == taken
        assert (queue.readings, bool(queue)) == (left, left > 0)

    asyncio.run(run())


def test_a_submission_that_is_larger_than_a_group_is_taken_alone() -> None:
    async def run() -> None:
        queue = Queue()
        for size in (SMALL + 1, SMALL + 1):
            queue.put(submission(size))
        assert sizes(queue.take(SMALL, is_small_only=True)) == []
        assert sizes(queue.take(SMALL, is_small_only=False)) == [SMALL + 1]
        assert queue.readings == SMALL + 1

    asyncio.run(run())


def test_whose_sender_is_gone_is_not_written() -> None:
    async def run() -> None:
        queue = Queue()
        gone, here = submission(3), submission(4)
        for one in (gone, here):
            queue.put(one)
        gone.done.cancel()
        assert queue.take(50_000, is_small_only=False) == [here]
        assert not queue
        assert queue.readings == 0

    asyncio.run(run())
