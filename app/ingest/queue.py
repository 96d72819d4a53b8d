"""What waits for a writer: small submissions before large ones."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from app.ingest.batch import Batch
from app.ingest.known import Codes

SMALL = 100
"""Readings of a submission that does not wait behind large ones."""


@dataclass(slots=True)
class Submission:
    """One request's readings on their way."""

    batch: Batch
    done: asyncio.Future[Codes]
    size: int
    """Its readings."""


class Queue:
    """Submissions in order of arrival, the small ones first."""

    def __init__(self) -> None:
        self.small: deque[Submission] = deque()
        self.large: deque[Submission] = deque()
        self.readings = 0

    def __bool__(self) -> bool:
        return bool(self.small or self.large)

    def put(self, submission: Submission) -> None:
        """The last of its kind."""
        (self.small if submission.size <= SMALL else self.large).append(submission)
        self.readings += submission.size

    def take(self, most: int, *, is_small_only: bool) -> list[Submission]:
        """At least one, if there is one; whoever asked for some may be gone, and they with him."""
        group: list[Submission] = []
        size = 0
        for queue in (self.small,) if is_small_only else (self.small, self.large):
            while queue and (not group or size + queue[0].size <= most):
                submission = queue.popleft()
                self.readings -= submission.size
                if not submission.done.done():
                    group.append(submission)
                    size += submission.size
        return group


def fail(group: Iterable[Submission], exc: Exception) -> None:
    """Tell all who still wait."""
    for submission in group:
        if not submission.done.done():
            submission.done.set_exception(exc)
