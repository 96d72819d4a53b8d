"""Where things lie on a distributed server, and what they are called there.

A distributed table is, on the workers, one table a shard, called after it with the shard's number;
the shards of all tables that hold the same sensors form a group. SQL that concerns shards is written
once, as for one server, and applied to each group with the group's names: `telemetry.reading` becomes
`telemetry.reading_102013`. Whatever such a file makes carries the number of the group's readings. A
table `x_shard` stands on the shards for what is `x` on one server.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.migrate.source import File

ANCHOR = "telemetry.reading"
"""The table whose shards give the groups their numbers and places."""

_MADE = re.compile(
    r"^\s*create\s+(?:or\s+replace\s+)?(?:unique\s+|unlogged\s+)?"
    r"(?:function|procedure|view|materialized\s+view|table|sequence|index|trigger)\s+"
    r"(?:if\s+not\s+exists\s+)?([a-z_][a-z0-9_.]*)",
    re.MULTILINE,
)

_KEY = re.compile(r"^\s*constraint\s+([a-z0-9_]+)\s+(?:primary\s+key|unique)", re.MULTILINE)
"""A key has an index of the same name."""

_PLACEMENTS = """
select
    format('%s.%s', n.nspname, c.relname) as name, p.partmethod = 'n' as is_reference, s.shardid as
    shard_id, s.shardminvalue as begins, d.nodename as host, d.nodeport as port, d.groupid as node
from pg_catalog.pg_dist_partition as p
join pg_catalog.pg_class as c on c.oid = p.logicalrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_dist_shard as s on s.logicalrelid = p.logicalrelid
join pg_catalog.pg_dist_placement as l on l.shardid = s.shardid
join pg_catalog.pg_dist_node as d on d.groupid = l.groupid and d.noderole = 'primary'
where (p.partmethod = 'n' and p.repmodel = 't')
    or p.colocationid = (
        select a.colocationid
        from pg_catalog.pg_dist_partition as a
        where a.logicalrelid = to_regclass('telemetry.reading')
    )
order by s.shardid, d.groupid
"""


class _Placement(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    is_reference: bool
    shard_id: int
    begins: str | None
    host: str
    port: int
    node: int


class Node(msgspec.Struct, frozen=True, order=True):
    """A server of the cluster."""

    number: int
    """Its group in pg_dist_node; 0 is the coordinator."""
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The shards of the same sensors."""

    shard_id: int
    """That of its readings."""
    node: Node
    begins: int
    """The lowest hash of its sensors."""
    names: Mapping[str, str]
    """Qualified names of distributed and reference tables, and what they are called here."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as its metadata describe it."""

    workers: tuple[Node, ...]
    references: Mapping[str, str]
    """Reference tables and the names of their placements, the same on every node."""
    groups: tuple[Group, ...]


async def is_spread(conn: AsyncConnection[Any]) -> bool:
    """Whether readings are distributed already."""
    cur = await conn.execute("select to_regclass('alert.outbox_shard') is not null")
    row = await cur.fetchone()
    return bool(row and row[0])


async def read_places(conn: AsyncConnection[Any]) -> Places:
    """Ask the coordinator."""
    cur = await conn.execute(
        "select groupid, nodename, nodeport from pg_catalog.pg_dist_node"
        " where groupid > 0 and noderole = 'primary' and isactive order by groupid"
    )
    workers = tuple(Node(*row) for row in await cur.fetchall())
    async with conn.cursor(row_factory=class_row(_Placement)) as rows:
        await rows.execute(_PLACEMENTS)
        placements = await rows.fetchall()
    references = {
        placement.name: f"{placement.name}_{placement.shard_id}"
        for placement in placements
        if placement.is_reference
    }
    shards = [placement for placement in placements if not placement.is_reference]
    groups = []
    for anchor in shards:
        if anchor.name == ANCHOR:
            names = dict(references)
            for shard in shards:
                if shard.begins == anchor.begins:
                    local = f"{shard.name}_{shard.shard_id}"
                    names[shard.name] = names[shard.name.removesuffix("_shard")] = local
            node = Node(anchor.node, anchor.host, anchor.port)
            begins = int(anchor.begins or 0)
            groups.append(Group(shard_id=anchor.shard_id, node=node, begins=begins, names=names))
    groups.sort(key=lambda group: group.begins)
    return Places(workers=workers, references=references, groups=tuple(groups))


def names_made(files: Iterable[File]) -> frozenset[str]:
    """What these files create."""
    return frozenset(
        name for file in files for pattern in (_MADE, _KEY) for name in pattern.findall(file.text)
    )


def names_in(group: Group, made: frozenset[str]) -> dict[str, str]:
    """Every name that differs on the group's shards."""
    own = {name: f"{name}_{group.shard_id}" for name in made}
    return own | dict(group.names)


def localise(text: str, names: Mapping[str, str]) -> str:
    """The text with each name as it is called in a place."""
    if not names:
        return text
    some = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![\w$])(?:{some})(?![\w$])", lambda found: names[found[0]], text)
