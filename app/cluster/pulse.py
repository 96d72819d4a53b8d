"""Gives a move up once a server that it needs stands still: its group must not stay closed with it.

A statement may take as long as it likes, so something else is asked of each server meanwhile. The host of
one that is frozen goes on to answer for it; only the server itself can say that it lives.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import psycopg

from app.cluster.session import Cluster
from app.db.pool import connect
from app.errors import CommandError
from app.migrate.lease import BEAT_SECONDS, LEASE_SECONDS
from app.migrate.nodes import address_of
from app.migrate.places import Node


async def while_they_answer(
    work: Coroutine[Any, Any, None], cluster: Cluster, nodes: Iterable[Node]
) -> None:
    """Do the work. Raises CommandError, with the work cut off, for a server that has fallen silent."""
    doing = asyncio.create_task(work, name="move")
    asked = {str(node): address_of(cluster.url, node) for node in nodes}
    asking = [
        asyncio.create_task(_ask(name, url), name="pulse")
        for name, url in {"the coordinator": cluster.url, **asked}.items()
    ]
    try:
        await asyncio.wait({doing, *asking}, return_when=asyncio.FIRST_COMPLETED)
        for task in asking:
            if task.done() and not doing.done():
                task.result()
        await doing
    finally:
        for task in (doing, *asking):
            task.cancel()
        await asyncio.gather(doing, *asking, return_exceptions=True)


async def _ask(name: str, url: str) -> None:
    """Again and again, until there is no answer."""
    try:
        there = await connect(url, application="headwater pulse", patience=LEASE_SECONDS)
        async with there:
            while True:
                await there.execute("select")
                await asyncio.sleep(BEAT_SECONDS)
    except psycopg.OperationalError as exc:
        raise CommandError(f"{name} does not answer: {' '.join(str(exc).split())}") from None
