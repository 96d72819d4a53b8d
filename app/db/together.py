"""What many want to know at once, in few questions."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """Asks for many: whatever is wanted while one question runs goes in the next, once.

    A question that fails, fails for all who wait for it. Who waits no longer stops nobody's question.
    """

    def __init__(self, ask: Callable[[list[T]], Awaitable[None]]) -> None:
        self._ask = ask
        self._lock = asyncio.Lock()
        self._wanted: set[T] = set()
        self._next: asyncio.Task[None] | None = None

    async def want(self, things: Iterable[T]) -> None:
        """Come back once a question that began after this has asked for them. Raises what it raises."""
        self._wanted.update(things)
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._next.add_done_callback(_note)
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        async with self._lock:
            wanted, self._wanted, self._next = list(self._wanted), set(), None
            await self._ask(wanted)


def _note(task: asyncio.Task[None]) -> None:
    """Nobody may be left to hear of its failure."""
    if not task.cancelled():
        task.exception()
