"""What a move does to a group's shards on one node: fence, compare, remove. All of it may be repeated."""

import asyncio
import math
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg import sql as pgsql

from app.errors import CommandError
from app.migrate.places import Group, Node, Places

TRIES = 6
"""Each waits lock_timeout (10 s) for those who write to a shard or read it."""
JOBS_SECONDS = 120.0
CLOSE = 1e-9
"""Sums of the same readings in another order differ by less, relatively."""

Digest = dict[str, tuple[Any, ...]]


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """A group by the names of its tables on any node."""

    shard_id: int
    tables: tuple[str, ...]
    rollups: tuple[str, ...]

    @property
    def shard_ids(self) -> list[int]:
        """Citus' numbers of all its shards, in the order in which writers come to them."""
        return sorted(int(name.rpartition("_")[2]) for name in (*self.tables, *self.rollups))

    @property
    def numbers(self) -> str:
        """The sequence of its episodes."""
        return f"alert.shard_number_{self.shard_id}"


def shards_of(group: Group, places: Places) -> Shards:
    """The group's own tables, without the reference tables beside them."""
    own = {name: local for name, local in group.names.items() if name not in places.references}
    rollups = {local for name, local in own.items() if name.startswith("telemetry.rollup_")}
    return Shards(
        shard_id=group.shard_id,
        tables=tuple(sorted(set(own.values()) - rollups)),
        rollups=tuple(sorted(rollups)),
    )


def moved_to(group: Group, node: Node) -> Group:
    """The same group on another node."""
    return msgspec.structs.replace(group, node=node)


async def stop_jobs(there: AsyncConnection[Any], shards: Shards) -> None:
    """Let no policy of the group start, and wait for those that run."""
    names = [*shards.tables, *shards.rollups]
    await there.execute("select ops.schedule_shard_jobs(%s, false)", [names])
    for _ in range(int(JOBS_SECONDS * 5)):
        cur = await there.execute("select ops.running_shard_jobs(%s)", [names])
        if await cur.fetchone() == (0,):
            return
        await asyncio.sleep(0.2)
    raise CommandError(
        f"policies of shards {shards.shard_id} still run after {JOBS_SECONDS:g} s; run it again later"
    )


async def keep_off(
    source: AsyncConnection[Any], target: AsyncConnection[Any], shards: Shards
) -> None:
    """Switch off the copy's policies that somebody has switched off in the original."""
    names = [*shards.tables, *shards.rollups]
    cur = await source.execute(
        "select array_agg(j.name) from ops.named_shard_jobs(%s) as j where j.is_off", [names]
    )
    row = await cur.fetchone()
    if row is not None and row[0]:
        await target.execute(
            "select public.alter_job(j.job_id, scheduled => false)"
            " from ops.named_shard_jobs(%s) as j where j.name = any (%s)",
            [names, row[0]],
        )


async def refresh(there: AsyncConnection[Any], shards: Shards) -> None:
    """Do what the group's policies would: readings that came late would count in the copy alone.

    What a job of ours refreshes is left to it: its log of what is still to do moves along.
    """
    steps = pgsql.SQL("select s from {0}(false) as s where s not in (select {0}(true))").format(
        pgsql.Identifier("telemetry", f"rollup_refresh_steps_{shards.shard_id}")
    )
    cur = await there.execute(steps)
    for (step,) in await cur.fetchall():
        await there.execute(step)


async def fence(there: AsyncConnection[Any], shards: Shards) -> None:
    """Wait for the writers that are at it, refuse all others; one table at a time, so none deadlocks."""
    for table in shards.tables:
        await _patiently(there, "select ops.fence_shard(%s)", table)


async def unfence(there: AsyncConnection[Any], shards: Shards) -> None:
    """The group lies here and stays: writers and policies go on."""
    for table in shards.tables:
        await _patiently(there, "select ops.unfence_shard(%s)", table)
    names = [*shards.tables, *shards.rollups]
    await there.execute("select ops.schedule_shard_jobs(%s, true)", [names])


async def drop(there: AsyncConnection[Any], shards: Shards) -> None:
    """Remove everything of the group from this node, once nobody reads it."""
    await _patiently(
        there, "select ops.drop_shards(%s, %s::bigint[])", shards.shard_id, shards.shard_ids
    )


async def _patiently(there: AsyncConnection[Any], what: LiteralString, *values: object) -> None:
    """Again and again, so that those behind us get through whenever we had to wait."""
    for _ in range(TRIES):
        try:
            await there.execute(what, values)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as exc:
            reason = exc
        else:
            return
    raise CommandError(
        f"{values[0]}: somebody has been at it for a minute ({reason.diag.message_primary});"
        " run it again later"
    )


async def digest(there: AsyncConnection[Any], shards: Shards) -> Digest:
    """What a true copy has in common with its original, by table."""
    found = {}
    for function, names in (("digest", shards.tables), ("rollup_digest", shards.rollups)):
        for name in names:
            what = pgsql.SQL("select * from ops.{}(%s)").format(pgsql.Identifier(function))
            cur = await there.execute(what, [name])
            row = await cur.fetchone()
            assert row is not None
            found[name] = row
    return found


def difference(original: Digest, copy: Digest) -> str | None:
    """The first table that is not the same, and how; None: all are."""
    for name, row in original.items():
        other = copy[name]
        if row[:2] != other[:2]:
            what = "rows" if row[0] != other[0] else "values"
            return f"{name}: other {what} in the copy ({row[0]} rows, and {other[0]} there)"
        pairs = zip(row[2:], other[2:], strict=True)
        if not all(math.isclose(one, two, rel_tol=CLOSE, abs_tol=CLOSE) for one, two in pairs):
            return f"{name}: other sums in the copy"
    return None


async def last_number(there: AsyncConnection[Any], shards: Shards) -> int:
    """The last number that the group's sequence gave."""
    cur = await there.execute(
        "select coalesce(pg_sequence_last_value(%s::text::regclass), 0)", [shards.numbers]
    )
    row = await cur.fetchone()
    assert row is not None
    return int(row[0])


async def go_on_from(there: AsyncConnection[Any], shards: Shards, number: int) -> None:
    """Give no number again, also if what had it was deleted."""
    own = await last_number(there, shards)
    await there.execute("select setval(%s::text::regclass, %s)", [shards.numbers, max(number, own)])
