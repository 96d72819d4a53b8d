"""The book-keeping in schema archive: which export is where, in typed form.

Whoever archives works as the objects' owner (OWNER_DATABASE_URL): chunks and aggregates are theirs.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from app.archive.digest import CHECKSUM_KIND, Digest, total
from app.db.pool import Connection, connect_direct
from app.db.queries import queries
from app.errors import CommandError
from app.ops.moves import REMEDY, moves_unfinished
from app.settings import Settings

SQL = queries("archive") | queries("archive_export")
OWNER = "headwater_owner"
LOCK = "archiver"
"""Not the scheduled job's own lock: that one is held while it calls us."""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One row of archive.export, as far as the next step needs it."""

    export_id: int
    range_from: datetime
    range_to: datetime
    is_late: bool
    state: str
    hot_count: int | None
    merge_from: datetime | None
    merge_to: datetime | None

    @property
    def range(self) -> dict[str, datetime]:
        """As arguments."""
        return {"range_from": self.range_from, "range_to": self.range_to}


@asynccontextmanager
async def owner_connection(settings: Settings) -> AsyncIterator[Connection]:
    """Connected as the owner of everything. Raises CommandError where that is not possible."""
    try:
        connection = await connect_direct(
            settings.owner_database_url,
            application="headwater-archive",
            variable="OWNER_DATABASE_URL",
        )
    except psycopg.Error as exc:
        raise CommandError(
            f"can't connect to the database ({str(exc).strip().splitlines()[-1]}); "
            "look at OWNER_DATABASE_URL"
        ) from None
    async with connection:
        try:
            await connection.execute(f"set role {OWNER}")
        except psycopg.errors.InsufficientPrivilege:
            raise CommandError(
                "the archive drops chunks, which only their owner may: "
                "set OWNER_DATABASE_URL, as for `headwater migrate`"
            ) from None
        # shards and reference tables change in one transaction; without Citus it means nothing
        await connection.execute("set citus.multi_shard_modify_mode = 'sequential'")
        yield connection


@asynccontextmanager
async def only_archiver(connection: AsyncConnection) -> AsyncIterator[bool]:
    """Hold the lock that makes us the only one; yields whether we got it.

    Whoever moves shards holds it, too. Raises CommandError where a move was left in the middle.
    """
    jobs = queries("jobs")
    cursor = await connection.execute(jobs["job_lock"], {"job": LOCK})
    row = await cursor.fetchone()
    is_mine = bool(row and row[0])
    try:
        if is_mine:
            for move in await moves_unfinished(connection):
                raise CommandError(f"{move}, and the archive waits for that: {REMEDY}")
        yield is_mine
    finally:
        if is_mine and not connection.closed:
            await connection.execute(jobs["job_unlock"], {"job": LOCK})


async def exports_unfinished(connection: AsyncConnection) -> list[Export]:
    """What an earlier run left, oldest first."""
    async with connection.cursor(row_factory=class_row(Export)) as cursor:
        await cursor.execute(SQL["exports_unfinished"])
        return await cursor.fetchall()


async def export_claim(connection: AsyncConnection, *, age: timedelta) -> Export | None:
    """The next chunk that is older than `age`; None: there is none."""
    async with connection.cursor(row_factory=class_row(Export)) as cursor:
        await cursor.execute(SQL["export_claim"], {"age": age})
        return await cursor.fetchone()


async def export_get(connection: AsyncConnection, *, export_id: int) -> Export:
    """As it is now."""
    async with connection.cursor(row_factory=class_row(Export)) as cursor:
        await cursor.execute(SQL["export_get"], {"export_id": export_id})
        row = await cursor.fetchone()
        assert row is not None
        return row


async def rows(connection: AsyncConnection, name: str, **arguments: Any) -> list[tuple[Any, ...]]:
    """The rows of a named statement; none where it returns nothing."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(SQL[name], arguments)
        return await cursor.fetchall() if cursor.description else []


async def cold_exports(
    connection: AsyncConnection, *, range_from: datetime, range_to: datetime
) -> list[int]:
    """Exports that hold cold readings of a range."""
    found = await rows(connection, "cold_exports", range_from=range_from, range_to=range_to)
    return [row[0] for row in found]


async def record_verified(
    connection: AsyncConnection, export: Export, manifest: Digest, *, hot_count: int
) -> None:
    """Manifest and state in one transaction."""
    count, first, last, value_sum = total(manifest)
    digests = list(manifest.values())
    async with connection.transaction():
        await rows(connection, "manifest_clear", export_id=export.export_id)
        await rows(
            connection,
            "manifest_put",
            export_id=export.export_id,
            sensor_ids=[one.sensor_id for one in digests],
            row_counts=[one.row_count for one in digests],
            first_ts=[one.first_ts for one in digests],
            last_ts=[one.last_ts for one in digests],
            value_sums=[one.value_sum for one in digests],
            checksums=[one.checksum for one in digests],
        )
        await rows(
            connection,
            "export_is_verified",
            export_id=export.export_id,
            row_count=count,
            hot_count=hot_count,
            first_ts=first,
            last_ts=last,
            value_sum=value_sum,
            checksum_kind=CHECKSUM_KIND,
        )
