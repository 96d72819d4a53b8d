"""What every node is and holds, as each says itself. One that is down is said to be down."""

import asyncio
from collections.abc import Collection
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection

from app.cluster.plan import Load, skew
from app.cluster.session import Cluster, Member
from app.errors import CommandError
from app.local.doctor import findings, read_offer
from app.migrate import nodes
from app.migrate.nodes import on_node
from app.migrate.places import ANCHOR, Places
from app.ops.moves import Move, moves_unfinished


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    """A group of shards: the readings of the same sensors and what belongs to them."""

    shard_id: int
    node: str
    size_bytes: int | None
    """Of its readings; null while its node is down."""


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the cluster."""

    node: str
    role: str
    """coordinator or worker"""
    is_up: bool
    takes_shards: bool
    """False: the coordinator, or a worker that is being drained."""
    is_aside: bool
    """Not told yet of what changed while it was away; nothing moves to it or from it."""
    groups: int
    size_bytes: int | None
    """Of the readings; null while it is down."""
    missing: list[str]
    """What `headwater migrate` would still have to build here."""
    dangers: list[str]
    """What the server's settings risk, as `headwater doctor` has it."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """The whole cluster."""

    nodes: list[NodeState]
    skew: float | None
    """Readings of the fullest worker by the mean, in bytes; null: no readings, or a node down."""
    is_complete: bool
    groups: list[GroupState]
    moves: list[Move]

    @property
    def is_well(self) -> bool:
        """All nodes up, told of all, complete and safe, and no move left in the middle."""
        return (
            self.is_complete
            and not self.moves
            and all(node.is_up and not node.is_aside and not node.dangers for node in self.nodes)
        )


async def survey(cluster: Cluster) -> Survey:
    """Ask the coordinator and each node."""
    places = await cluster.places()
    members = await cluster.members()
    answers = await asyncio.gather(*(_ask(cluster, places, member) for member in members))
    states = [state for state, _ in answers]
    sizes = {shard_id: size for _, sizes in answers for shard_id, size in sizes.items()}
    takers = [state for state in states if state.takes_shards]
    known = [state.size_bytes for state in takers if state.size_bytes is not None]
    return Survey(
        nodes=states,
        skew=skew(known) if len(known) == len(takers) else None,
        is_complete=all(state.is_up and not state.missing for state in states),
        groups=[
            GroupState(
                shard_id=group.shard_id,
                node=str(group.node),
                size_bytes=sizes.get(group.shard_id),
            )
            for group in places.groups
        ],
        moves=await moves_unfinished(cluster.conn),
    )


async def loads(cluster: Cluster, without: Collection[int] = ()) -> list[Load]:
    """Every group with its size, but for those on some nodes; raises CommandError if a node is down."""
    places = await cluster.places()
    found = []
    for node in places.workers:
        if node.number in without:
            continue
        async with on_node(cluster.url, node) as there:
            sizes = await _sizes(there, places, node.number)
        found += [
            Load(shard_id=shard_id, node=node.number, size=size) for shard_id, size in sizes.items()
        ]
    return found


async def _ask(
    cluster: Cluster, places: Places, member: Member
) -> tuple[NodeState, dict[int, int]]:
    node = member.node
    sizes: dict[int, int] = {}
    missing: list[str] = []
    dangers: list[str] = []
    is_up = True
    try:
        async with on_node(cluster.url, node) as there:
            found = findings(await read_offer(there))
            dangers = [f"{one.subject}: {one.detail}" for one in found if one.level == "danger"]
            sizes = await _sizes(there, places, node.number)
        if node.number:
            here = msgspec.structs.replace(places, workers=(node,))
            missing = [str(one) for one in await nodes.due(cluster.url, here, cluster.files)]
    except (CommandError, psycopg.OperationalError):
        is_up = False
    state = NodeState(
        node=str(node),
        role="worker" if node.number else "coordinator",
        is_up=is_up,
        takes_shards=member.takes_shards,
        is_aside=member.is_aside,
        groups=sum(group.node.number == node.number for group in places.groups),
        size_bytes=sum(sizes.values()) if is_up else None,
        missing=missing,
        dangers=dangers,
    )
    return state, sizes


async def _sizes(there: AsyncConnection[Any], places: Places, number: int) -> dict[int, int]:
    sizes = {}
    for group in places.groups:
        if group.node.number == number:
            cur = await there.execute(
                "select coalesce(public.hypertable_size(to_regclass(%s)), 0)",
                [group.names[ANCHOR]],
            )
            row = await cur.fetchone()
            assert row is not None
            sizes[group.shard_id] = int(row[0])
    return sizes
