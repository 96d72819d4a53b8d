"""An import from its files to its totals.

Files are read one after another, resolved by the API's own rules (only the clock's past is wider) and
written in groups of some millions of readings, so that many small files make few big parts. What the
ledger knows is left out.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import AsyncConnection

from app.backfill import ledger
from app.backfill.load import Group, Loader, Totals, newest_of, pick
from app.backfill.source import digest, read_columns
from app.db.cli import command_connection
from app.db.pool import make_pool, refuse_pooler
from app.db.queries import queries
from app.errors import CommandError
from app.identity.permission import Principal
from app.identity.tenant import tenant_id_of
from app.ingest.batch import Batch, join
from app.ingest.catalogue import Catalogue, is_uid
from app.ingest.columns import Columns
from app.ingest.resolve import resolve
from app.settings import Settings

SQL = queries("import")
GROUP = 5_000_000
"""Readings that are written together, unless one file has more."""
PAST_DAYS = 54_787
"""How old an imported reading may be: 150 years."""
LOCK_SECONDS = 10.0
AWAY = "a server that must know of the sensors can't be reached; run the same command again later"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    tenant: str
    is_create_sensors: bool = False
    is_again: bool = False
    """Pay no heed to the ledger."""
    utc_offset: float | None = None
    connections: int = 2


class File(msgspec.Struct, frozen=True):
    """A file that is resolved and not yet written."""

    import_file_id: int
    batch: Batch
    """What the ledger lacks."""
    newest: Batch


class Display:
    """Told how far the import is; the command line shows it."""

    def reading(self, path: Path) -> None:
        """A file is being read."""

    def found(self, count: int) -> None:
        """So many readings more are to be written."""

    def wrote(self, count: int) -> None:
        """So many are."""


class Import:
    """One run."""

    def __init__(self, settings: Settings, options: Options, display: Display) -> None:
        self._settings = msgspec.structs.replace(settings, clock_past_days=PAST_DAYS)
        self._options = options
        self._display = display
        self.totals = Totals()

    async def run(self, files: Sequence[Path]) -> None:
        """Import the files. Raises CommandError; what is in by then stays and is known."""
        settings, options = self._settings, self._options
        async with command_connection(settings) as reader:
            tenant_id = await tenant_id_of(reader, options.tenant)
            await lock(reader, tenant_id)
            pool = make_pool(settings)
            async with pool, command_connection(settings, settings.ingest_database_url) as book:
                refuse_pooler(book, "INGEST_DATABASE_URL")
                self._book, self._tenant_id = book, tenant_id
                self._catalogue = Catalogue(pool)
                loader = Loader(
                    settings.ingest_database_url, self.totals, self._display.wrote,
                    connections=options.connections,
                )  # fmt: skip
                try:
                    async with loader:
                        await self._load(loader, files)
                except ExceptionGroup as group:  # of the loader's tasks
                    raise _first(group) from None

    async def _load(self, loader: Loader, files: Sequence[Path]) -> None:
        waiting: list[File] = []
        seen: set[bytes] = set()
        for path in files:
            sha256 = await asyncio.to_thread(digest, path, utc_offset=self._options.utc_offset)
            if sha256 in seen:
                continue
            seen.add(sha256)
            file = await self._prepare(path, sha256)
            if file is not None:
                waiting.append(file)
            if sum(len(one.batch) for one in waiting) >= GROUP:
                await loader.load(_group(waiting))
                waiting = []
        if waiting:
            await loader.load(_group(waiting))

    async def _prepare(self, path: Path, sha256: bytes) -> File | None:
        """Read, resolve and register a file; None where all of it is in."""
        totals = self.totals
        totals.files += 1
        known = None
        if not self._options.is_again:
            known = await ledger.known_file(self._book, tenant_id=self._tenant_id, sha256=sha256)
        if known is not None and known.is_finished and not known.rejected:
            totals.skip(known)
            return None
        self._display.reading(path)
        batch, rejected = await self._resolve(path)
        if known is not None and known.rejected == rejected:
            if known.is_finished:
                totals.skip(known)
                return None
            parts = await ledger.known_parts(self._book, import_file_id=known.import_file_id)
            for part in parts:
                totals.skip(part)
            file_id = known.import_file_id
            left = pick(batch, np.flatnonzero(~ledger.covered(batch.ts, parts)))
        else:
            file_id = await ledger.begin_file(
                self._book, tenant_id=self._tenant_id, sha256=sha256, name=path.name,
                reading_count=len(batch), rejected=rejected,
            )  # fmt: skip
            left = batch
        self._display.found(len(left))
        return File(file_id, left, newest_of(batch))

    async def _resolve(self, path: Path) -> tuple[Batch, int]:
        """All readings of a file that can be stored, and how many can't."""
        principal = Principal(
            name="import", api_key_id=0, tenant_id=self._tenant_id, role="admin", sensor_ids=None,
            is_auto_register=self._options.is_create_sensors,
        )  # fmt: skip
        batches = [_nothing()]
        rejected = 0
        slices = await asyncio.to_thread(
            lambda: list(read_columns(path, utc_offset=self._options.utc_offset))
        )
        for number, columns in enumerate(slices):
            if number == 0:
                await self._check_sensors(path, columns)
            batch, _ = await resolve(columns, self._catalogue, principal, self._settings, None)
            if any(verdict.verdict == "unavailable" for verdict in columns.rejected):
                raise CommandError(AWAY)
            batches.append(batch)
            rejected += len(columns.rejected)
            self.totals.rejected.update(
                (verdict.field or "", verdict.reason or "") for verdict in columns.rejected
            )
        return join(batches[1:] or batches), rejected

    async def _check_sensors(self, path: Path, columns: Columns) -> None:
        """Before anything of the file is written: does the tenant have all of its sensors?"""
        wanted = [uid for uid in columns.sensors if is_uid(uid)]
        found, unclear = await self._catalogue.sensors(
            self._tenant_id, wanted, is_auto_register=self._options.is_create_sensors
        )
        if unclear:
            raise CommandError(AWAY)
        unknown = [uid for uid, sensor in zip(wanted, found, strict=True) if sensor is None]
        if unknown:
            more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
            raise CommandError(
                f"{path}: the tenant {self._options.tenant} has no sensor"
                f" {', '.join(map(repr, unknown[:3]))}{more}; register them or add --create-sensors"
            )


async def lock(connection: AsyncConnection, tenant_id: int) -> None:
    """One import a tenant at a time; a killed one's lock goes with its connection, soon."""
    try:
        async with asyncio.timeout(LOCK_SECONDS):
            while True:
                cursor = await connection.execute(SQL["import_lock"], {"tenant_id": tenant_id})
                row = await cursor.fetchone()
                if row is not None and row[0]:
                    return
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise CommandError("another import into this tenant is running; wait for its end") from None


def _nothing() -> Batch:
    return Batch(
        np.zeros(0, np.int64), np.zeros(0, np.int16), np.zeros(0, np.int64), np.zeros(0),
        np.zeros(0, np.int16),
    )  # fmt: skip


def _group(files: list[File]) -> Group:
    file_no: NDArray[np.int32] = np.repeat(
        np.arange(len(files), dtype=np.int32), [len(file.batch) for file in files]
    )
    return Group(
        batch=join([file.batch for file in files]),
        file_no=file_no,
        import_file_ids=[file.import_file_id for file in files],
        newest=newest_of(join([file.newest for file in files])),
    )


def _first(group: BaseException) -> BaseException:
    """The failure that ended the others; a database's in words."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    if not isinstance(group, psycopg.Error):
        return group
    return CommandError(
        f"{str(group).strip().splitlines()[0]}; run the same command again, it goes on where it"
        " stopped"
    )
