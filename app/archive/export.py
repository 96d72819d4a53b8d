"""One export, step by step: pending, exported, verified, dropped (docs/cold-tier.md draws it).

Each step is done again from its beginning when a process died in it. What makes that safe: rows in the
lake carry the export's number and do not count before the export is dropped; the chunk goes in the
same transaction that makes them count; and it goes only if it holds as many readings as were verified,
which is enough because readings are only ever added.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime

import structlog
from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable

from app.archive.book import (
    Export,
    cold_exports,
    export_get,
    record_verified,
    rows,
)
from app.archive.chunk import read_chunk
from app.archive.digest import SensorDigest, Tally, difference
from app.archive.files import put_files
from app.archive.hot import bring_back, ids, moment
from app.archive.lake import COLUMNS, TABLE, Lake, literal
from app.archive.piece import ArchiveError
from jobs.rollup import run_step

log = structlog.get_logger()

LOCK_TIMEOUT = "3s"
LOCK_ATTEMPTS = 5
REFRESH_WAIT_SECONDS = 120.0
PAUSE_SECONDS = 0.2
PASSES = 3
"""How often one run starts an export over because late readings came in between."""


async def move(connection: AsyncConnection, lake: Lake, export: Export) -> Export:
    """Take an export as far as it goes. Raises LakeError, ArchiveError, psycopg.Error."""
    passes = 0
    here: dict[int, SensorDigest] | None = None
    while export.state != "dropped":
        if export.state == "pending":
            passes += 1
            if passes > PASSES:
                raise ArchiveError("what is there changes all the time; the next run goes on")
            here = await put(connection, lake, export)
        # verified by a run that died: verified again, for files can change
        elif await verify(connection, lake, export, here):
            await drop(connection, export)
        export = await export_get(connection, export_id=export.export_id)
    return export


async def put(
    connection: AsyncConnection, lake: Lake, export: Export
) -> dict[int, SensorDigest] | None:
    """pending → exported: the chunk's readings are in the lake, in one snapshot of it.

    Returns PostgreSQL's digest of the chunk, computed meanwhile.
    """
    number = export.export_id
    if await lake.ask(f"select 1 from {TABLE} where export_id = {number} limit 1"):
        await lake.ask(f"delete from {TABLE} where export_id = {number}")
    merge_from = None
    if export.is_late:
        ((merge_from, merge_to),) = await rows(connection, "export_late_hours", **export.range)
    if merge_from is None:
        here = await put_files(connection, lake, export)
    else:
        here = None
        await _put_late(connection, lake, export, merge_from, merge_to)
    ((snapshot,),) = await lake.ask("select max(snapshot_id) from lake.snapshots()")
    ((file_count, byte_count),) = await rows(connection, "export_files", snapshot_id=snapshot)
    await rows(
        connection,
        "export_is_done",
        export_id=number,
        snapshot_id=snapshot,
        file_count=file_count,
        byte_count=byte_count,
    )
    return here


async def _put_late(
    connection: AsyncConnection,
    lake: Lake,
    export: Export,
    merge_from: datetime,
    merge_to: datetime,
) -> None:
    """Late readings: the cold ones of their hours beside them, and only what is new into the lake."""
    number = export.export_id
    exports = await cold_exports(connection, range_from=merge_from, range_to=merge_to)
    await bring_back(connection, lake, range_from=merge_from, range_to=merge_to, export_id=number)
    columns = ", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))
    source = (
        f"select {COLUMNS} from telemetry.reading where ts >= {literal(str(export.range_from))}"
        f" and ts < {literal(str(export.range_to))}"
    )
    await lake.ask(
        f"insert into {TABLE} select {columns}, coalesce(s.tenant_id, 0), {number}"
        f" from postgres_query('pg', {literal(source)}) as r"
        " left join pg.telemetry.sensor as s on s.sensor_id = r.sensor_id"
        f" where not exists (select 1 from {TABLE} as c where c.export_id in ({ids(exports)})"
        f" and c.ts >= {moment(merge_from)} and c.ts < {moment(merge_to)} and c.ts = r.ts"
        " and c.sensor_id = r.sensor_id and c.metric_id = r.metric_id)"
    )


async def verify(
    connection: AsyncConnection,
    lake: Lake,
    export: Export,
    here: Mapping[int, SensorDigest] | None = None,
) -> bool:
    """exported → verified: read back and compared; False: late readings came, it starts over.

    `here` is PostgreSQL's digest, where it was computed already. Raises ArchiveError where the lake has
    anything else than the chunk had.
    """
    number = export.export_id
    sensors = sorted(here or ())
    middle = sensors[len(sensors) // 2] if len(sensors) > 1 else None
    manifest = await digest_lake(lake, f"export_id = {number}", middle=middle)
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
    if here is None or difference(here, there):
        here = await read_chunk(connection, lake.server, export)
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


async def digest_lake(
    lake: Lake, where: str, *, middle: int | None = None
) -> dict[int, SensorDigest]:
    """The digest of what is read back; by two readers, where `middle` says which sensor parts them."""
    tally = Tally()
    statement = f"select {COLUMNS} from {TABLE} where ({where})"
    halves = [""] if middle is None else [f"sensor_id < {middle}", f"sensor_id >= {middle}"]
    readers = [
        lake.fold(statement + (f" and {half}" if half else ""), tally.add_batch) for half in halves
    ]
    for failure in await asyncio.gather(*readers, return_exceptions=True):
        if failure is not None:
            raise failure
    return tally.digest()


async def drop(connection: AsyncConnection, export: Export) -> None:
    """verified → dropped: rollups first, then the chunk; or back to pending, where late readings came."""
    span = {"range_from": export.merge_from, "range_to": export.merge_to}
    if not export.is_late:
        span = dict(export.range)
    if span["range_from"] is not None:
        await refresh(connection, **span)
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


async def refresh(connection: AsyncConnection, *, range_from: object, range_to: object) -> None:
    """Bring the rollups of a range of hot readings up to date, after whoever is at it."""
    for (step,) in await rows(connection, "rollup_steps", range_from=range_from, range_to=range_to):
        await run_step(connection, step)


async def _refreshes_are_over(connection: AsyncConnection) -> None:
    """Wait for refreshes that began before the policies' windows moved. Raises ArchiveError."""
    await asyncio.sleep(PAUSE_SECONDS)  # one that has just begun says so a moment later
    begun = set(await rows(connection, "rollups_running"))
    deadline = time.monotonic() + REFRESH_WAIT_SECONDS
    while begun:
        if time.monotonic() > deadline:
            raise ArchiveError(
                f"a rollup has been refreshed for {REFRESH_WAIT_SECONDS:g} s, and might be of what is to "
                "be dropped; the next run tries again"
            )
        await asyncio.sleep(PAUSE_SECONDS)
        begun &= set(await rows(connection, "rollups_running"))
