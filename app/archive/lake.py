"""The lake: DuckDB in this process, its catalogue in PostgreSQL (schema `lake`), its files in a Place.

DuckDB's extensions come from Python packages and are put into the state folder, so nothing is fetched at
run time. Memory is bounded; what does not fit is spilled to the state folder. A Lake belongs to one
thread at a time; `ask` runs a statement beside the event loop.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import duckdb_extensions
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict

from app.archive.place import Place
from app.paths import STATE

EXTENSIONS = ("postgres", "ducklake", "httpfs")
CATALOGUE_SCHEMA = "lake"
TABLE = "lake.main.reading"
S3_TIMEOUT_SECONDS = 20
COLUMNS = "sensor_id, metric_id, ts, value, quality"

_TABLE = f"""
create table if not exists {TABLE} (
    sensor_id bigint not null,
    metric_id smallint not null,
    ts timestamptz not null,
    value double not null,
    quality smallint not null,
    tenant_id integer not null,
    export_id bigint not null
)
"""
_OPTIONS = {
    "parquet_compression": "zstd",
    "parquet_version": "2",
    "parquet_row_group_size": "122880",
}
Row = tuple[Any, ...]
Result = TypeVar("Result")
BATCH_ROWS = 122_880


class LakeError(Exception):
    """DuckDB could not do it; the text is one line without secrets."""


def literal(text: str) -> str:
    """A text as SQL literal, where parameters are not taken."""
    return "'" + text.replace("'", "''") + "'"


async def beside(
    work: Callable[[], Result], interrupt: Callable[[], Awaitable[None] | None]
) -> Result:
    """What `work` finds in a thread; a cancelled caller interrupts it and waits for its end."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        sent = interrupt()
        if sent is not None:
            await sent
        await asyncio.gather(task, return_exceptions=True)
        raise


def home() -> Path:
    """Where DuckDB keeps extensions and spills: the state folder, or where that can't be written."""
    found = STATE / "duckdb"
    try:
        found.mkdir(parents=True, exist_ok=True)
        if os.access(found, os.W_OK):
            return found
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="headwater-duckdb-"))


def address(url: str, *, application: str, **settings: str) -> str:
    """libpq's key=value form, with the session's settings; PG* variables fill what the URL leaves out."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    parts = {**conninfo_to_dict(url), "options": options, "application_name": application}
    return " ".join(
        "{}='{}'".format(key, str(value).replace("\\", "\\\\").replace("'", "\\'"))
        for key, value in parts.items()
    )


def load(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Load extensions, from their packages where the state folder has none yet."""
    for name in names:
        try:
            connection.load_extension(name)
        except duckdb.Error:
            duckdb_extensions.import_extension(name, con=connection)
            connection.load_extension(name)


def use_store(connection: duckdb.DuckDBPyConnection, place: Place) -> None:
    """Make the place's files readable; nothing is to be done for a folder."""
    if not place.bucket:
        return
    connection.execute(f"set http_timeout = {S3_TIMEOUT_SECONDS}")
    connection.execute("set http_retries = 2")
    connection.execute(
        f"create secret store (type s3, key_id {literal(place.key)},"
        f" secret {literal(place.secret)}, region {literal(place.region or 'us-east-1')},"
        f" endpoint {literal(place.endpoint)}, url_style 'path',"
        f" use_ssl {'true' if place.is_tls else 'false'})"
    )


class Lake:
    """An attached lake; `close` it. Raises LakeError for whatever DuckDB says."""

    def __init__(
        self,
        place: Place,
        url: str,
        *,
        role: str = "",
        is_writer: bool = False,
        memory_mb: int = 256,
        threads: int = 2,
    ) -> None:
        self.place = place
        session = {"timezone": "UTC"} | ({"role": role} if role else {})
        self.server = address(url, application="headwater-lake", **session)
        """Where the chunks are, for a connection of one's own."""
        self._secrets = [text for text in (place.secret, *_passwords(url)) if text]
        base = home()
        with self._translated():
            self.connection = duckdb.connect(
                config={
                    "memory_limit": f"{memory_mb}MB",
                    "threads": threads,
                    "home_directory": str(base),  # a service may have none of its own
                    "extension_directory": str(base / "extensions"),
                    "temp_directory": str(base / "spill"),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "preserve_insertion_order": True,
                }
            )
        try:
            with self._translated():
                self._load()
                self._attach(is_writer=is_writer)
        except BaseException:
            self.connection.close()
            raise

    def _load(self) -> None:
        load(self.connection, *EXTENSIONS)
        self.connection.execute("set timezone = 'UTC'")
        self.connection.execute("set enable_progress_bar = false")

    def _attach(self, *, is_writer: bool) -> None:
        place = self.place
        use_store(self.connection, place)
        mode = "" if is_writer else ", read_only"
        self.connection.execute(f"attach {literal(self.server)} as pg (type postgres, read_only)")
        catalogue = literal("ducklake:postgres:" + self.server)
        self.connection.execute(
            f"attach {catalogue} as lake (metadata_schema '{CATALOGUE_SCHEMA}',"
            f" data_path {literal(place.data_path)}, data_inlining_row_limit 0{mode})"
        )
        if is_writer:
            self._prepare()

    def _prepare(self) -> None:
        """Make the table once: a month and a tenant a folder, sorted by series."""
        known = self.connection.execute(
            "select count(*) from duckdb_tables() where database_name = 'lake' and table_name = 'reading'"
        ).fetchone()
        if known and known[0]:
            return
        self.connection.execute("begin")
        self.connection.execute(_TABLE)
        self.connection.execute(
            f"alter table {TABLE} set partitioned by (year(ts), month(ts), tenant_id)"
        )
        self.connection.execute(
            f"alter table {TABLE} set sorted by (sensor_id asc, metric_id asc, ts asc)"
        )
        self.connection.execute("commit")
        for name, value in _OPTIONS.items():
            self.connection.execute(f"call lake.set_option('{name}', '{value}')")

    def run(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """A statement's rows."""
        with self._translated():
            return self.connection.execute(statement, list(arguments)).fetchall()

    async def ask(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """A statement's rows, in a thread; a cancelled caller interrupts it."""
        return await beside(lambda: self.run(statement, arguments), self.connection.interrupt)

    async def read(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """As `ask`, beside other reads of the same lake."""
        return await self._beside(
            lambda cursor: cursor.execute(statement, list(arguments)).fetchall()
        )

    async def fold(self, statement: str, take: Callable[[pa.RecordBatch], None]) -> None:
        """Call `take` with a statement's rows, some at a time; memory stays bounded."""

        def work(cursor: duckdb.DuckDBPyConnection) -> None:
            for batch in cursor.execute(statement).to_arrow_reader(BATCH_ROWS):
                take(batch)

        await self._beside(work)

    async def _beside(self, work: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        with self._translated():
            cursor = self.connection.cursor()

        def translated() -> Result:
            with self._translated():
                return work(cursor)

        try:
            return await beside(translated, cursor.interrupt)
        finally:
            with contextlib.suppress(duckdb.Error):
                cursor.close()

    def register(self, names: Sequence[str]) -> None:
        """Add files that lie in the place, all in one snapshot."""
        with self._translated():
            self.connection.execute("begin")
            try:
                for name in names:
                    path = literal(self.place.data_path + name)
                    self.connection.execute(
                        f"call ducklake_add_data_files('lake', 'reading', {path})"
                    )
                self.connection.execute("commit")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self.connection.execute("rollback")
                raise

    def close(self) -> None:
        """Let go of files and connections."""
        with contextlib.suppress(duckdb.Error):
            self.connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as exc:
            text = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
            if "DATA_PATH parameter" in text:
                text = (
                    "ARCHIVE_URL is not where this lake's files are; set it back, or see "
                    "docs/cold-tier.md for how to move them"
                )
            for secret in self._secrets:
                text = text.replace(secret, "***")
            raise LakeError(text[:400]) from None


def _passwords(url: str) -> list[str]:
    password = conninfo_to_dict(url).get("password")
    return [str(password)] if password else []
