"""Moves a group of shards to another node, whole or not at all, resumable after any death.

Citus copies rows, not hypertables, so the copy is built anew as `headwater migrate` builds shards, and
compared with the original, before it counts. Steps, each noted in ops.shard_move:

planned   written down
fenced    nobody writes to the group any more, and a crash changes nothing about that
copied    Citus has copied the rows; the transaction that gives the group its new place stays open
verified  the copy is a hypertable with rollups, triggers and policies, and equal to the original
switched  that transaction is committed: the new place counts, API processes are told
done      nothing of the group is left on the old node

Until the switch the original is the truth and any failure is undone: the copy is removed, the fence taken
down. After it the move can only be finished. Where a group lies is asked of Citus, never guessed
from the state, and only once nobody is left who could still commit a switch.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.cluster import shards as on_shards
from app.cluster.pulse import while_they_answer
from app.cluster.session import STATEMENTS, Cluster, ask
from app.cluster.shards import Shards, moved_to, shards_of
from app.errors import CommandError
from app.migrate import nodes
from app.migrate.engine import connect
from app.migrate.nodes import OPTIONS, Due, shard_files
from app.migrate.places import Group, Node

MOVE_KEY = 0x73686172_646D6F76  # "shardmov"; whoever may switch a group holds it
GROUP_SECONDS = 120.0
READERS_SECONDS = 60.0


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ops.shard_move that is not finished."""

    move_id: int
    shard_id: int
    source_node: int
    target_node: int
    state: str
    problem: str | None

    def __str__(self) -> str:
        return f"shards {self.shard_id}"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A move with all that it concerns."""

    cluster: Cluster
    move: Move
    group: Group
    """As it is on its source."""
    shards: Shards
    source: Node
    target: Node
    switch: asyncio.Event
    """Set before the switch is asked for; until then it can't come, whoever still holds the lock."""

    async def note(self, state: str, problem: str | None = None) -> None:
        """Write down how far it is, and say so."""
        await self.cluster.run("move_note", move_id=self.move.move_id, state=state, problem=problem)
        self.cluster.report(f"{self.move}  {state}")


async def unfinished(cluster: Cluster) -> list[Move]:
    """Moves that somebody began."""
    async with cluster.conn.cursor(row_factory=class_row(Move)) as cur:
        await cur.execute(STATEMENTS["moves_begun"])
        return await cur.fetchall()


async def settle(cluster: Cluster, away: Collection[int] = ()) -> None:
    """End what an earlier command left in the middle, but for moves of nodes `away`; leave no fence."""
    known = {node.number for node in (await cluster.places()).workers}
    moves = await unfinished(cluster)
    # of a node that was removed there is nothing to go on with
    if any(not {move.source_node, move.target_node} <= known for move in moves):
        await cluster.run("moves_settle")
        moves = await unfinished(cluster)
    for move in moves:
        cluster.report(f"{move}  goes on, was {move.state}")
        try:
            await carry_out(cluster, move)
        except CommandError as exc:
            if not {move.source_node, move.target_node} & set(away):
                raise
            cluster.report(f"{move}  waits: {exc}")
    places = await cluster.places()
    for node in places.workers:
        if node.number in away:
            continue
        async with cluster.on(node) as there:
            cur = await there.execute("select * from ops.fenced_shards()")
            fenced = {row[0] for row in await cur.fetchall()}
            for group in places.groups:
                shards = shards_of(group, places)
                if group.node == node and fenced & set(shards.tables):
                    await on_shards.unfence(there, shards)


async def move_group(cluster: Cluster, *, shard_id: int, source: int, target: int) -> None:
    """Move a group; raises CommandError where that is not to be, with the group back at its source."""
    async with cluster.conn.cursor(row_factory=class_row(Move)) as cur:
        values = {"shard_id": shard_id, "source_node": source, "target_node": target}
        await cur.execute(STATEMENTS["move_plan"], values)
        move = await cur.fetchone()
    assert move is not None
    await carry_out(cluster, move)


async def carry_out(cluster: Cluster, move: Move) -> None:
    """Do whatever is left of a move."""
    job = await _job(cluster, move)
    if not await _has_switched(job):
        if move.state == "undoing":
            await _undo(job, move.problem or "")
            return
        told = [one.node for one in await cluster.members() if one.number and not one.is_aside]
        try:
            await while_they_answer(_transfer(job), cluster, told)
        except BaseException as exc:
            await _after_failure(job, exc)
    await _finish(job)


async def _job(cluster: Cluster, move: Move) -> Job:
    places = await cluster.places()
    known = {node.number: node for node in places.workers}
    group = next((one for one in places.groups if one.shard_id == move.shard_id), None)
    if group is None or not {move.source_node, move.target_node} <= set(known):
        raise CommandError(f"{move}: its node is no longer part of the cluster")
    source = known[move.source_node]
    return Job(
        cluster=cluster,
        move=move,
        group=moved_to(group, source),
        shards=shards_of(group, places),
        source=source,
        target=known[move.target_node],
        switch=asyncio.Event(),
    )


@asynccontextmanager
async def _switcher(job: Job, *, seconds: int = 60) -> AsyncIterator[AsyncConnection[Any]]:
    """An open transaction on the coordinator of the only one who may switch groups.

    Whoever died before us may live on in a backend that is just committing; the lock waits for that.
    """
    async with connect(job.cluster.url, options=OPTIONS) as conn:
        await conn.execute("begin")
        await conn.execute(f"set local lock_timeout = '{seconds}s'")
        await ask(conn, "move_lock", key=MOVE_KEY)
        try:
            yield conn
        except BaseException:
            await conn.close()  # a rollback would wait for a node that stands still
            raise


async def _has_switched(job: Job) -> bool:
    async with _switcher(job) as conn:
        ((place,),) = await ask(conn, "group_place", shard_id=job.move.shard_id)
    return bool(place == job.target.number)


async def _transfer(job: Job) -> None:
    cluster, shards = job.cluster, job.shards
    async with (
        cluster.on(job.source) as source,
        cluster.on(job.target) as target,
    ):
        await on_shards.drop(target, shards)  # of an attempt that died
        await on_shards.stop_jobs(source, shards)
        await on_shards.refresh(source, shards)  # most of it while others write
        async with _switcher(job) as conn:
            await _lock_group(conn, shards)
            await on_shards.fence(source, shards)
            await on_shards.refresh(source, shards)
            await job.note("fenced")
            await ask(
                conn,
                "group_copy",
                shard_id=shards.shard_id,
                source_host=job.source.host,
                source_port=job.source.port,
                target_host=job.target.host,
                target_port=job.target.port,
            )
            await job.note("copied")
            await _build(job, source)
            await job.note("verified")
            job.switch.set()
            await ask(conn, "move_switch", move_id=job.move.move_id)
            await conn.execute("commit")
    cluster.report(f"{job.move}  switched")


async def _lock_group(conn: AsyncConnection[Any], shards: Shards) -> None:
    """Hold those who write through the coordinator, as Citus does while it moves.

    Given up again and again before a writer that waits for us, while we wait for it, would be taken
    for a deadlock (deadlock_timeout, 1 s) and be the one who fails.
    """
    deadline = asyncio.get_running_loop().time() + GROUP_SECONDS
    while True:
        await conn.execute("savepoint unlocked")
        try:
            await conn.execute("set local lock_timeout = '500ms'")
            await ask(conn, "group_lock", shard_ids=shards.shard_ids)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await conn.execute("rollback to savepoint unlocked")
            if asyncio.get_running_loop().time() > deadline:
                raise CommandError(
                    f"shards {shards.shard_id}: others write without a pause; run it again later"
                ) from None
            await asyncio.sleep(0.2)
        else:
            await conn.execute("release savepoint unlocked")
            await conn.execute("set local lock_timeout = 0")
            return


async def _build(job: Job, source: AsyncConnection[Any]) -> None:
    """Make of the rows what they are on the source, and commit only what is equal."""

    async def compare(target: AsyncConnection[Any]) -> None:
        number = await on_shards.last_number(source, job.shards)
        await on_shards.go_on_from(target, job.shards, number)
        await on_shards.keep_off(source, target, job.shards)
        original = await on_shards.digest(source, job.shards)
        problem = on_shards.difference(original, await on_shards.digest(target, job.shards))
        if problem:
            raise CommandError(problem)

    files = job.cluster.files
    one = Due(
        node=job.target, group=moved_to(job.group, job.target), files=tuple(shard_files(files))
    )
    await nodes.bring_up(job.cluster.url, one, files, lambda _: None, check=compare)


async def _after_failure(job: Job, exc: BaseException) -> None:
    """Find out which side of the switch we are on; before it: undo, and raise."""
    why = " ".join(str(exc).split()) or type(exc).__name__
    try:
        if not job.switch.is_set():
            with suppress(CommandError):  # it may wait for a node that stands still
                async with _switcher(job, seconds=5):
                    pass
        elif await _has_switched(job):  # only the answer to the commit was lost
            return
        await _undo(job, why)
    except (CommandError, psycopg.Error) as second:
        rest = " ".join(str(second).split())
        raise CommandError(
            f"{job.move} did not move to {job.target}: {why}; and it is not undone: {rest};"
            " `headwater cluster rebalance` goes on from here"
        ) from exc
    if not isinstance(exc, Exception):
        raise exc
    raise CommandError(
        f"{job.move} did not move to {job.target} and stays on {job.source}: {why}"
    ) from exc


async def _undo(job: Job, why: str) -> None:
    """The original stays what it was: first let its writers in, then remove the copy."""
    await job.note("undoing", why)
    async with job.cluster.on(job.source) as there:
        await on_shards.unfence(there, job.shards)
    async with job.cluster.on(job.target) as there:
        await on_shards.drop(there, job.shards)
    await job.cluster.run("leftovers_drop")
    await job.note("undone")


async def _finish(job: Job) -> None:
    """Remove the old copy, once nobody is left who may be on the way to read it."""
    deadline = asyncio.get_running_loop().time() + READERS_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        ((readers,),) = await job.cluster.run("move_readers", move_id=job.move.move_id)
        if not readers:
            break
        await asyncio.sleep(0.1)
    async with job.cluster.on(job.source) as there:
        await on_shards.drop(there, job.shards)
    await job.cluster.run("leftovers_drop")
    await job.note("done")
