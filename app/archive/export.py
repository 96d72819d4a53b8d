"""One export, step by step: pending, exported, verified, dropped (docs/cold-tier.md draws it).

Each step is done again from its beginning when a process died in it. What makes that safe: rows in the
lake carry the export's number and do not count before the export is dropped; the chunk goes in the
same transaction that makes them count; and it goes only if it holds as many readings as were verified,
which is enough because readings are only ever added.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import LiteralString, cast

import structlog
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable

from app.archive.book import (
    Export,
    cold_exports,
    digest_hot,
    export_get,
    record_verified,
    rows,
)
from app.archive.digest import DIGEST, SensorDigest, difference, digest_of
from app.archive.hot import bring_back, ids, moment
from app.archive.lake import COLUMNS, TABLE, Lake, literal

log = structlog.get_logger()

LOCK_TIMEOUT = "3s"
LOCK_ATTEMPTS = 5
REFRESH_WAIT_SECONDS = 120.0
PASSES = 3
"""How often one run starts an export over because late readings came in between."""


class ArchiveError(Exception):
    """What came back differs from what went out, time after time: nothing was dropped."""


async def move(connection: AsyncConnection, lake: Lake, export: Export) -> Export:
    """Take an export as far as it goes. Raises LakeError, ArchiveError, psycopg.Error."""
    passes = 0
    while export.state != "dropped":
        if export.state == "pending":
            passes += 1
            if passes > PASSES:
                raise ArchiveError("what is there changes all the time; the next run goes on")
            await put(connection, lake, export)
        else:  # verified by a run that died: verified again, for files can change
            is_same = await verify(connection, lake, export)
            if is_same:
                await drop(connection, export)
        export = await export_get(connection, export_id=export.export_id)
    return export


async def put(connection: AsyncConnection, lake: Lake, export: Export) -> None:
    """pending → exported: the chunk's readings are in the lake, in one snapshot of it."""
    number = export.export_id
    if await lake.ask(f"select 1 from {TABLE} where export_id = {number} limit 1"):
        await lake.ask(f"delete from {TABLE} where export_id = {number}")
    known = ""
    if export.is_late:
        ((merge_from, merge_to),) = await rows(connection, "export_late_hours", **export.range)
        if merge_from is not None:
            exports = await cold_exports(connection, range_from=merge_from, range_to=merge_to)
            await bring_back(
                connection, lake, range_from=merge_from, range_to=merge_to, export_id=number
            )
            known = (
                f" where not exists (select 1 from {TABLE} as c where c.export_id in ({ids(exports)})"
                f" and c.ts >= {moment(merge_from)} and c.ts < {moment(merge_to)} and c.ts = r.ts"
                " and c.sensor_id = r.sensor_id and c.metric_id = r.metric_id)"
            )
    found = await rows(connection, "export_chunk", **export.range)
    if found:
        ((chunk, is_columnar),) = found
        columns = ", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))
        await lake.ask(
            f"insert into {TABLE} select {columns}, coalesce(s.tenant_id, 0), {number}"
            f" from {_source(export, chunk, is_columnar=is_columnar)} as r"
            f" left join pg.telemetry.sensor as s on s.sensor_id = r.sensor_id{known}"
        )
    ((snapshot,),) = await lake.ask("select max(snapshot_id) from lake.snapshots()")
    await rows(connection, "export_is_done", export_id=number, snapshot_id=snapshot)


def _source(export: Export, chunk: str, *, is_columnar: bool) -> str:
    """The chunk for DuckDB; a row store is read in parallel and sorted there."""
    if not is_columnar:
        return f"pg.{chunk}"
    statement = (
        f"select {COLUMNS} from telemetry.reading where ts >= {literal(str(export.range_from))}"
        f" and ts < {literal(str(export.range_to))} order by sensor_id, metric_id, ts"
    )
    return f"postgres_query('pg', {literal(statement)})"


async def verify(connection: AsyncConnection, lake: Lake, export: Export) -> bool:
    """exported → verified: read back and compared; False: late readings came, it starts over.

    Raises ArchiveError where the lake has anything else than the chunk had.
    """
    number = export.export_id
    manifest = await digest_lake(lake, f"export_id = {number}")
    there = manifest
    if export.merge_from is not None and export.merge_to is not None:
        exports = await cold_exports(
            connection, range_from=export.merge_from, range_to=export.merge_to
        )
        there = await digest_lake(
            lake,
            f"export_id in ({ids([*exports, number])}) and (export_id = {number} or"
            f" (ts >= {moment(export.merge_from)} and ts < {moment(export.merge_to)}))",
        )
    here = await digest_hot(connection, **export.range)
    hot_count = sum(one.row_count for one in here.values())
    problem = difference(here, there)
    if problem is None:
        await record_verified(connection, export, manifest, hot_count=hot_count)
        return True
    surplus = hot_count - sum(one.row_count for one in there.values())
    text = f"{surplus} readings came late, or did not arrive" if surplus > 0 else problem
    await rows(connection, "export_starts_over", export_id=number, problem=text)
    if surplus <= 0:
        raise ArchiveError(f"export {number} of {export.range_from:%Y-%m-%d}: {problem}")
    return False


async def digest_lake(lake: Lake, where: str) -> dict[int, SensorDigest]:
    """DuckDB's digest of what it reads back."""
    source = f"(select {COLUMNS} from {TABLE} where {where})"
    return digest_of(await lake.ask(DIGEST.format(source=source)))


async def drop(connection: AsyncConnection, export: Export) -> None:
    """verified → dropped: rollups first, then the chunk; or back to pending, where late readings came."""
    span = {"range_from": export.merge_from, "range_to": export.merge_to}
    if not export.is_late:
        span = dict(export.range)
    if span["range_from"] is not None:
        for (step,) in await rows(connection, "rollup_steps", **span):
            await connection.execute(cast("LiteralString", step))
    await rows(connection, "rollups_protect", range_to=export.range_to)
    await _refreshes_are_over(connection)
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                await rows(connection, "chunk_drop", export_id=export.export_id)
            return
        except LockNotAvailable:
            log.info("archive_chunk_busy", export=export.export_id, attempt=attempt)
            if attempt == LOCK_ATTEMPTS:
                raise
            await asyncio.sleep(attempt)


async def _refreshes_are_over(connection: AsyncConnection) -> None:
    """Wait for refreshes that began before the policies' windows moved."""
    begun = datetime.now(UTC)
    deadline = time.monotonic() + REFRESH_WAIT_SECONDS
    while time.monotonic() < deadline:
        ((running,),) = await rows(connection, "rollups_running", before=begun)
        if not running:
            return
        await asyncio.sleep(0.2)
