"""Workers that are away while something changes between the others.

Every worker knows all places, and Citus tells a change to all of them or makes none. So one that can't be
reached is set aside first: it keeps what it has, and nothing moves to it or from it. What it knows of the
others grows old meanwhile, and nobody reads that: the API, the jobs and the commands ask the
coordinator for places, and what runs on a worker by itself touches its own shards alone. Once it is back
it is told everything anew, by the jobs (jobs/move.py) or the next command, whichever comes first.
"""

import asyncio
from collections.abc import Iterable

import psycopg
from psycopg import AsyncConnection

from app.cluster.session import STATEMENTS, Cluster, Member
from app.errors import CommandError
from app.migrate.nodes import on_node


async def away(cluster: Cluster) -> list[Member]:
    """The workers that can't be reached."""
    workers = [member for member in await cluster.members() if member.number]
    answers = await asyncio.gather(*(_answers(cluster, member) for member in workers))
    return [member for member, is_there in zip(workers, answers, strict=True) if not is_there]


async def roll_call(cluster: Cluster) -> list[Member]:
    """The workers that take no part in what follows; those that are back do again, and know all."""
    gone = await away(cluster)
    for member in await cluster.members():
        if member.is_aside and member not in gone:
            await _welcome(cluster, member)
    said = [member.number for member in gone]
    gone += [one for one in await cluster.members() if one.is_aside and one.number not in said]
    for member in gone:
        cluster.report(f"{member.node}  is away: what lies there stays there, the others go on")
    return gone


async def set_aside(cluster: Cluster, members: Iterable[Member]) -> None:
    """Let the cluster change without these."""
    for member in members:
        await cluster.run("node_set_aside", node=member.number)


async def take_back(conn: AsyncConnection, number: int) -> bool:
    """Tell a worker that was set aside everything anew; False: it is still away."""
    for name in ("node_resync", "node_take_back"):
        cur = await conn.execute(STATEMENTS[name], {"node": number})
        row = await cur.fetchone()
        if row is None or not row[0]:
            return False
    return True


async def _answers(cluster: Cluster, member: Member) -> bool:
    try:
        async with on_node(cluster.url, member.node):
            return True
    except CommandError:
        return False


async def _welcome(cluster: Cluster, member: Member) -> None:
    try:
        is_back = await take_back(cluster.conn, member.number)
    except psycopg.Error as exc:
        cluster.report(f"{member.node}  can't be told what it missed: {' '.join(str(exc).split())}")
    else:
        if is_back:
            cluster.report(f"{member.node}  is back, and knows of everything that it missed")
