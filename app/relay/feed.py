"""Rows on their way from a query's thread to a client, a few batches ahead of it and no more."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import structlog

from app.errors import Problem

log = structlog.get_logger()

BATCH_ROWS = 1_000
AHEAD = 2
"""Batches that may wait for the client."""

Rows = list[tuple[Any, ...]]


class Closed(Exception):
    """Nobody wants the rows any more."""


class Feed:
    """A sink for the thread, and where the session takes from. `stop` it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[Rows | None] = asyncio.Queue()
        self._free = threading.Semaphore(AHEAD)
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None
        self._problem: Problem | None = None
        self._rest: Rows = []
        self.count = 0
        """Rows that were taken."""

    @property
    def room(self) -> int:
        """As many rows as a batch has."""
        return BATCH_ROWS

    def add(self, batch: Rows) -> bool:
        """From the thread: waits while enough is ahead of the client."""
        if not batch:
            return False
        self._free.acquire()
        if self._is_closed:
            raise Closed
        self._loop.call_soon_threadsafe(self._batches.put_nowait, batch)
        return True

    def close(self) -> None:
        """Whoever waits in `add` gives up."""
        self._is_closed = True
        self._free.release()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it fill the feed."""
        self._task = asyncio.create_task(self._run(work))

    async def take(self, most: int) -> Rows:
        """Some rows, at most so many; none: that was all. Raises Problem."""
        if not self._rest:
            batch = await self._batches.get()
            if batch is None:
                self._batches.put_nowait(None)
                if self._problem is not None:
                    raise self._problem
                return []
            self._free.release()
            self._rest = batch
        taken, self._rest = self._rest[:most], self._rest[most:]
        self.count += len(taken)
        return taken

    def cancel(self, problem: Problem) -> None:
        """End it; whoever takes is told why."""
        self._problem = problem
        if self._task is not None:
            self._task.cancel()

    def abandon(self) -> None:
        """End it; nobody takes."""
        self.close()
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """End it and wait for the end."""
        self.abandon()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Problem as exc:
            self._problem = exc
        except Exception as exc:
            log.exception("query_broke", error=str(exc))
            self._problem = Problem("Something broke on our side.")
        finally:
            self._batches.put_nowait(None)
