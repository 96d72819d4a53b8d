"""The bells of a distributed server's workers: alerts are raised where the readings are."""

import asyncio
from collections.abc import Callable

from app.db.bell import Bell


class NodeBells:
    """One bell a node, for as long as the node holds shards."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._bells: dict[str, Bell] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def listen_on(self, urls: list[str]) -> None:
        """Listen on these nodes and no others."""
        for url in urls:
            if url not in self._bells:
                self._bells[url] = Bell(url, {"alert_raised": self._ring})
                self._bells[url].start()
        for url in self._bells.keys() - set(urls):
            task = asyncio.create_task(self._bells.pop(url).stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def stop(self) -> None:
        """Stop listening."""
        await asyncio.gather(*(bell.stop() for bell in self._bells.values()), *self._leaving)
