"""Takes a worker in, and lets one go. Both may be killed anywhere and simply run again."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg import sql as pgsql

from app.cluster.away import roll_call, set_aside
from app.cluster.move import move_group, settle, unfinished
from app.cluster.plan import Step, make_plan
from app.cluster.session import BehindError, Cluster, Member, hold
from app.cluster.survey import loads
from app.errors import CommandError
from app.local.doctor import Offer, read_offer
from app.migrate import nodes
from app.migrate.engine import connect
from app.migrate.nodes import SCHEMAS, Report, on_node
from app.migrate.places import Node, is_spread

NEW = -1
"""Number of a node that Citus has not numbered yet."""
SYNC_SECONDS = 60.0
EXTENSIONS = ("citus", "timescaledb")


async def add(cluster: Cluster, *, host: str, port: int) -> None:
    """Make the server a worker with everything it needs; it gets shards by the next rebalance."""
    node = Node(NEW, host, port)
    known = _find(await cluster.members(), host, port)
    if known is not None and known.number == 0:
        raise CommandError(f"{node} is the coordinator: name another server")
    async with on_node(cluster.url, node) as there:
        if await _is_coordinator(cluster, there):
            raise CommandError(f"{node} is the coordinator by another name: name another server")
    gone = [member for member in await roll_call(cluster) if member != known]
    await set_aside(cluster, gone)
    async with cluster.on(node) as there:
        await _check(cluster, there, node)
        if known is None:
            await _make_free(cluster, there, node)
    if known is None:
        async with cluster.on(node) as there:
            await _make_extensions(there, node)
    # what is known of an extension once it is there
    async with cluster.on(node) as there:
        await _check(cluster, there, node)
    await nodes.prepare(cluster.conn, cluster.url, node)
    await cluster.run("references_later")
    await cluster.run("node_add", host=host, port=port)
    if known is not None and not known.takes_shards:
        await cluster.run("node_take", host=host, port=port)
    await _wait_synced(cluster, node)
    await complete(cluster)
    cluster.report(f"{node}  {'is a worker' if known is None else 'was a worker already'}")


async def complete(cluster: Cluster) -> None:
    """Give every node whatever it lacks: reference tables, settings, functions, shards' parts.

    One that is away is complete as it is, or `headwater migrate` sees to it later.
    """
    await cluster.run("references_copy")
    unreachable: list[str] = []
    places = await cluster.places()
    for one in await nodes.due(cluster.url, places, cluster.files, unreachable):
        if one.group is None:
            await nodes.prepare(cluster.conn, cluster.url, one.node)
        await nodes.bring_up(cluster.url, one, cluster.files, cluster.report)


async def complete_local(url: str, report: Report) -> None:
    """The same after `headwater dev up` has added workers to a database that is in use.

    Where the database is behind the files, `headwater migrate` comes next, and does it.
    """
    async with connect(url) as conn:
        is_in_use = await is_spread(conn)
    if is_in_use:
        with suppress(BehindError):
            async with hold(url, report) as cluster:
                await roll_call(cluster)
                await complete(cluster)


async def plan(
    cluster: Cluster, *, away: Collection[int] = (), without: int | None = None
) -> list[Step]:
    """Moves that even the workers out, but for those that are `away`; `without` one of them."""
    takers = [
        member.number
        for member in await cluster.members()
        if member.takes_shards and member.number not in (0, without, *away)
    ]
    waiting = {move.shard_id for move in await unfinished(cluster)}
    groups = [load for load in await loads(cluster, away) if load.shard_id not in waiting]
    return make_plan(groups, takers)


async def rebalance(cluster: Cluster) -> int:
    """Finish what was begun, then even the workers out; how many groups moved."""
    gone = await roll_call(cluster)
    away = {member.number for member in gone}
    if await unfinished(cluster):
        await set_aside(cluster, gone)
    await settle(cluster, away)
    steps = await plan(cluster, away=away)
    if steps:
        await set_aside(cluster, gone)
    await carry_out(cluster, steps)
    return len(steps)


async def drain(cluster: Cluster, *, host: str, port: int) -> int:
    """Move everything off the worker and take it out; how many groups moved."""
    members = await cluster.members()
    member = _find(members, host, port)
    if member is None or member.number == 0:
        workers = ", ".join(str(one.node) for one in members if one.number)
        raise CommandError(f"{host}:{port} is no worker here; the workers are {workers}")
    gone = await roll_call(cluster)
    away = {one.number for one in gone}
    if member.number in away:
        raise CommandError(
            f"{member.node} can't be reached, and what lies there can't be moved without it: start it"
        )
    if not any(one.takes_shards for one in members if one.number not in (0, member.number, *away)):
        there = " and can be reached" if away else ""
        raise CommandError(
            f"{host}:{port} is the only worker that takes shards{there}: add another first, with"
            " `headwater cluster add-worker HOST:PORT`"
        )
    await set_aside(cluster, gone)
    await settle(cluster, away)
    for move in await unfinished(cluster):
        if member.number in (move.source_node, move.target_node):
            raise CommandError(f"{move} can't go on without a node that is away: start it first")
    await cluster.run("node_stop_taking", host=host, port=port)
    steps = [
        step
        for step in await plan(cluster, away=away, without=member.number)
        if step.source == member.number
    ]
    await carry_out(cluster, steps)
    await cluster.run("node_remove", host=host, port=port)
    cluster.report(f"{host}:{port}  is no worker any more; its server can be stopped")
    return len(steps)


async def carry_out(cluster: Cluster, steps: list[Step]) -> None:
    """One move after the other."""
    names = {node.number: str(node) for node in (await cluster.places()).workers}
    for number, step in enumerate(steps, 1):
        cluster.report(
            f"shards {step.shard_id}  {names[step.source]} -> {names[step.target]}"
            f"  ({number} of {len(steps)})"
        )
        await move_group(cluster, shard_id=step.shard_id, source=step.source, target=step.target)


def _find(members: list[Member], host: str, port: int) -> Member | None:
    return next((one for one in members if (one.host, one.port) == (host, port)), None)


async def _is_coordinator(cluster: Cluster, there: AsyncConnection[Any]) -> bool:
    """Whether our own session is one of that server's."""
    (session,) = await cluster.run("session")
    cur = await there.execute(
        "select exists (select from pg_catalog.pg_stat_activity as a"
        " where (a.pid, a.backend_start) = (%s, %s))",
        session,
    )
    return await cur.fetchone() == (True,)


async def _check(cluster: Cluster, there: AsyncConnection[Any], node: Node) -> None:
    """Refuse a server that could not work with the coordinator."""
    ours, theirs = await read_offer(cluster.conn), await read_offer(there)
    for what, wanted, found in _compared(ours, theirs):
        if wanted != found and not (found is None and theirs.timescaledb_version is None):
            raise CommandError(
                f"{node} has {what} {found or 'not at all'}, the coordinator {wanted}:"
                " install the same on every node"
            )
    if tuple(theirs.preload or ())[:1] != ("citus",) or "timescaledb" not in (theirs.preload or ()):
        raise CommandError(
            f"{node} has shared_preload_libraries = '{','.join(theirs.preload or ())}': set it to"
            " 'citus,timescaledb', in this order, and restart that server"
        )
    cur = await cluster.conn.execute("select current_setting('max_connections')::integer")
    wanted_row = await cur.fetchone()
    cur = await there.execute("select current_setting('max_prepared_transactions')::integer")
    found_row = await cur.fetchone()
    assert wanted_row is not None and found_row is not None
    if found_row[0] < wanted_row[0]:
        raise CommandError(
            f"{node} has max_prepared_transactions = {found_row[0]}: set it to {wanted_row[0]} at"
            " least, the coordinator's max_connections, and restart that server"
        )


def _compared(ours: Offer, theirs: Offer) -> list[tuple[str, str | None, str | None]]:
    compared = [
        (
            "PostgreSQL",
            ours.server_version.partition(".")[0],
            theirs.server_version.partition(".")[0],
        ),
        (
            "timescaledb.license",
            ours.settings.get("timescaledb.license"),
            theirs.settings.get("timescaledb.license"),
        ),
    ]
    for name in EXTENSIONS:
        wanted = getattr(ours, f"{name}_version")
        found = getattr(theirs, f"{name}_version") or getattr(theirs, f"{name}_available")
        compared.append((name, wanted, found))
    return compared


async def _make_extensions(there: AsyncConnection[Any], node: Node) -> None:
    for name in EXTENSIONS:
        try:
            await there.execute(
                pgsql.SQL("create extension if not exists {}").format(pgsql.Identifier(name))
            )
        except psycopg.Error as exc:
            raise CommandError(
                f"extension {name} can't be made on {node}: {' '.join(str(exc).split())}"
            ) from None


async def _make_free(cluster: Cluster, there: AsyncConnection[Any], node: Node) -> None:
    """Remove what a worker that was drained, or an attempt to add it, left; refuse anything else."""
    cur = await there.execute("select to_regclass('pg_catalog.pg_dist_node') is not null")
    if await cur.fetchone() != (True,):
        return
    cur = await there.execute("select groupid from pg_catalog.pg_dist_local_group")
    own = await cur.fetchone()
    members = await cluster.members()
    for one in members:
        if one.number and own == (one.number,):
            raise CommandError(f"{node} is the worker {one.node} by another name")
    cur = await there.execute(
        "select gid from pg_catalog.pg_prepared_xacts"
        r" where database = pg_catalog.current_database() and gid like 'citus\_%'"
    )
    for (gid,) in await cur.fetchall():
        await there.execute(pgsql.SQL("rollback prepared {}").format(pgsql.Literal(gid)))
    cur = await there.execute("select groupid, nodename, nodeport from pg_catalog.pg_dist_node")
    belonged = await cur.fetchall()
    if not belonged:
        return
    ours = [(one.number, one.host, one.port) for one in members if not one.number]
    cur = await there.execute(
        "select exists (select from pg_catalog.pg_class where relname ~ '^reading_[0-9]+$')"
    )
    if not set(ours) <= set(belonged) or await cur.fetchone() != (False,):
        raise CommandError(
            f"the database on {node} belongs to another cluster, or did: drop and create it anew"
        )
    cur = await there.execute(SCHEMAS)
    schemas = await cur.fetchall()
    await there.execute("drop extension citus cascade")
    for (name,) in schemas:
        await there.execute(pgsql.SQL("drop schema {} cascade").format(pgsql.Identifier(name)))


async def _wait_synced(cluster: Cluster, node: Node) -> None:
    for _ in range(int(SYNC_SECONDS * 10)):
        if await cluster.run("node_synced", host=node.host, port=node.port) == [(True,)]:
            return
        await asyncio.sleep(0.1)
    raise CommandError(f"{node} does not learn of the other nodes: see the coordinator's log")
