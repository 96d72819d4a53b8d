"""The other nodes of a distributed server: each asked with the login of the first, and compared.

A danger on one node endangers all: a parallel worker that crashes a worker's server takes the
readings of its sensors away.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from app.db.pool import connect
from app.local.doctor import Finding, Level, Offer, findings, read_offer
from app.migrate.nodes import address_of
from app.migrate.places import Node

_OTHERS = """
select
    d.groupid, d.nodename, d.nodeport, (
        select count(*)
        from pg_catalog.pg_dist_placement as p
        join pg_catalog.pg_dist_shard as s on s.shardid = p.shardid
        where p.groupid = d.groupid and s.logicalrelid = to_regclass('telemetry.reading')
    ), not d.hasmetadata
from pg_catalog.pg_dist_node as d
where d.noderole = 'primary'
    and d.groupid <> (select l.groupid from pg_catalog.pg_dist_local_group as l)
order by d.groupid
"""
_COMPARED: tuple[tuple[str, str, Level], ...] = (
    ("citus", "citus_version", "danger"),
    ("timescaledb", "timescaledb_version", "danger"),
    ("edition", "edition", "danger"),
    ("PostgreSQL", "server_version", "warning"),
)


class NodeOffer(msgspec.Struct, frozen=True, kw_only=True):
    """What another node offers."""

    number: int
    """Its group in pg_dist_node; 0 is the coordinator."""
    address: str
    shards: int
    """Groups of shards that lie there."""
    is_aside: bool
    """It was away while others changed, and has not been told yet (app/cluster/away.py)."""
    offer: Offer | None
    """None: it can't be reached."""


async def read_nodes(
    connection: AsyncConnection[Any], offer: Offer, url: str, *, seconds: float
) -> list[NodeOffer]:
    """Ask every node but this one, at the same time, each for at most so long; `url` is this one's."""
    if not offer.is_distributed:
        return []
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_OTHERS)
        others = {Node(*row[:3]): row[3:] for row in await cursor.fetchall()}
    asked = {node: asyncio.create_task(_ask(url, node, seconds)) for node in others}
    if asked:
        _, late = await asyncio.wait(asked.values(), timeout=seconds)
        for task in late:  # not awaited: a frozen server delays even the end of a question
            task.cancel()
    return [
        NodeOffer(
            number=node.number,
            address=str(node),
            shards=others[node][0],
            is_aside=others[node][1],
            offer=task.result() if task.done() and not task.cancelled() else None,
        )
        for node, task in asked.items()
    ]


async def _ask(url: str, node: Node, seconds: float) -> Offer | None:
    try:
        there = await connect(
            address_of(url, node), application="headwater-doctor", patience=seconds
        )
        async with there:
            return await read_offer(there)
    except (psycopg.Error, OSError):
        return None


def node_findings(first: Offer, others: Sequence[NodeOffer]) -> list[Finding]:
    """Everything worth saying about the other nodes; each must be what the first is."""
    return [
        msgspec.structs.replace(finding, subject=f"node {node.number}, {finding.subject}")
        for node in others
        for finding in _of_node(first, node)
    ]


def _of_node(first: Offer, node: NodeOffer) -> list[Finding]:
    if node.offer is None:
        remedy = (
            "start it; if it is up: address and password must be right for the other nodes, too"
        )
        return [Finding("danger", node.address, "can't be reached", remedy)]
    differing = [
        Finding(
            level,
            subject,
            f"{getattr(node.offer, field)} there, {getattr(first, field)} here",
            "the same on every node",
        )
        for subject, field, level in _COMPARED
        if getattr(node.offer, field) != getattr(first, field)
    ]
    return [*findings(node.offer), *differing]
