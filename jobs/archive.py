"""Moves closed chunks that are older than the hot window to the archive, oldest first.

Also `headwater archive run`. One process at a time; what an earlier run left unfinished comes first. A
range that fails stays hot, says why in archive.export, and does not keep the others from moving.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection

from app.archive.book import (
    OWNER,
    Export,
    export_claim,
    exports_unfinished,
    only_archiver,
    owner_connection,
    rows,
)
from app.archive.export import move, refresh
from app.archive.lake import Lake, LakeError
from app.archive.piece import ArchiveError
from app.archive.place import Place
from app.archive.retention import expire
from app.errors import CommandError
from app.settings import Settings

log = structlog.get_logger()

LEAST_DAYS = 4
"""Rollups by day are refreshed up to three days back; what is cold must be older."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did."""

    is_mine: bool = True
    """False: another process archives right now."""
    moved: int = 0
    expired: int = 0
    """Cold readings deleted because their tenant's time is over."""
    problems: list[str] = []


@asynccontextmanager
async def lake_writer(settings: Settings) -> AsyncIterator[Lake]:
    """The lake, attached to write. Raises CommandError, LakeError."""
    place = Place.of(settings)
    await asyncio.to_thread(place.check)
    lake = await asyncio.to_thread(
        Lake,
        place,
        settings.owner_database_url,
        role=OWNER,
        is_writer=True,
        memory_mb=settings.archive_memory_mb,
    )
    try:
        yield lake
    finally:
        lake.close()


async def run(settings: Settings, *, most: int | None = None) -> Outcome:
    """Move what is due, at most so many chunks. Raises CommandError, LakeError, psycopg.Error."""
    if settings.archive_after_days < LEAST_DAYS:
        raise CommandError(
            f"ARCHIVE_AFTER_DAYS={settings.archive_after_days}: at least {LEAST_DAYS}"
        )
    async with owner_connection(settings) as connection, only_archiver(connection) as is_mine:
        if not is_mine:
            return Outcome(is_mine=False)
        async with lake_writer(settings) as lake:
            return await _run(settings, connection, lake, most)


async def archive_due(_: AsyncConnection) -> None:
    """The scheduled job: nothing without ARCHIVE_URL. What fails is logged and tried again."""
    settings = Settings.from_env()
    if not settings.archive_url:
        return
    try:
        await run(settings)
    except (CommandError, LakeError) as exc:
        log.warning("archive_failed", error=str(exc))


async def _run(
    settings: Settings, connection: AsyncConnection, lake: Lake, most: int | None
) -> Outcome:
    moved = 0
    problems: list[str] = []
    age = timedelta(days=settings.archive_after_days)
    waiting = await exports_unfinished(connection)
    was_cut_short = bool(waiting)
    while most is None or moved + len(problems) < most:
        export = waiting.pop(0) if waiting else await export_claim(connection, age=age)
        if export is None:
            break
        try:
            done = await move(connection, lake, export)
        except (LakeError, ArchiveError, psycopg.Error) as exc:
            if connection.closed:
                raise
            text = _line(exc)
            problems.append(f"{export.range_from:%Y-%m-%d %H:%M}: {text}")
            log.warning("archive_failed", export=export.export_id, error=text)
            await rows(connection, "export_failed", export_id=export.export_id, problem=text)
            continue
        moved += done.state == "dropped"
        log.info("archived", **_facts(done))
    if was_cut_short and not problems:
        # files that a dead process wrote and nobody knows; nobody else writes now
        await lake.ask("call ducklake_delete_orphaned_files('lake', cleanup_all => true)")
    expired = await expire(connection, lake)
    await rows(connection, "rollups_protect", range_to=None)
    # hot days before the border, which the refresh policies no longer reach: what failed to move
    for range_from, range_to in await rows(connection, "hot_islands"):
        await refresh(connection, range_from=range_from, range_to=range_to)
    return Outcome(moved=moved, expired=expired, problems=problems)


def _facts(export: Export) -> dict[str, object]:
    return {
        "export": export.export_id,
        "range_from": export.range_from.isoformat(),
        "state": export.state,
        "readings": export.hot_count,
    }


def _line(exc: Exception) -> str:
    if isinstance(exc, psycopg.Error):
        return exc.diag.message_primary or str(exc).strip().splitlines()[0]
    return str(exc)
