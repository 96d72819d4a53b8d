"""DuckDB for one query: locked up with one tenant's rows before it sees a word of the person's.

`Engine.open` makes views of the files it is given, and then forbids all else: no other file, no network,
no extension, no setting. What a query could reach even with free SQL is the caller's own rows. `ask`
runs one SELECT, by DuckDB's own judgement of what that is, so nothing is written either. Memory and
spilled bytes are bounded. An Engine belongs to one thread; `interrupt` may come from any.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import msgspec
import structlog

from app.archive.hot import moment
from app.archive.lake import home, literal, load, use_store
from app.archive.place import Place
from app.errors import Problem, QueryRefused, QueryTooCostly, Unavailable
from app.query.answer import Sink
from app.query.duckdb_functions import Untranslatable
from app.query.macros import MACROS
from app.query.sources import READING
from app.query.words import TABLES

log = structlog.get_logger()

THREADS = 2
SPILL = 8
"""How many times its memory a query may spill."""
ROW_COST = 0.01
PAGE_BYTES = 8_192
KEY = ("ts", "sensor_id", "metric_id")

_BEFORE = (
    "set timezone = 'UTC'",
    "set enable_progress_bar = false",
    "set integer_division = true",
    "set default_null_order = 'nulls_last_on_asc_first_on_desc'",
    "create schema tenant",
)


class Cold(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as cold of the tenant's readings."""

    files: list[str]
    export_ids: list[int]
    until: datetime
    """No cold reading is as late."""
    row_count: int
    byte_count: int

    @property
    def cost(self) -> float:
        """As the planner would weigh a scan of it, so that one limit fits both engines."""
        return self.row_count * ROW_COST + self.byte_count / PAGE_BYTES


class Engine:
    """An instance of DuckDB; `close` it."""

    def __init__(self, folder: Path, *, memory_mb: int) -> None:
        base = home()
        self._folder = folder
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{memory_mb}MB",
                "max_temp_directory_size": f"{memory_mb * SPILL}MB",
                "threads": THREADS,
                "home_directory": str(base),
                "extension_directory": str(base / "extensions"),
                "temp_directory": str(folder / "spill"),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )

    def open(self, hot: dict[str, Path], cold: Cold, place: Place, tenant_id: int | None) -> None:
        """Make the views, then lock everything. Raises Unavailable, QueryTooCostly."""
        with self._building():
            run = self._connection.execute
            if cold.files and place.bucket:
                load(self._connection, "httpfs")
                use_store(self._connection, place)
            for statement in (*_BEFORE, *MACROS):
                run(statement)
            for view, path in hot.items():
                columns = ", ".join(TABLES[view]) if view in TABLES else "*"
                name = "hot_reading" if view == READING else f"tenant.{view}"
                run(f"create view {name} as select {columns} from {_parquet([str(path)])}")
            if READING in hot:
                self._make_readings(cold, tenant_id)
            allowed = ", ".join(map(literal, [*map(str, hot.values()), *cold.files]))
            run(f"set allowed_paths = [{allowed}]")
            run("set enable_external_access = false")
            run("set lock_configuration = true")

    def _make_readings(self, cold: Cold, tenant_id: int | None) -> None:
        run = self._connection.execute
        columns = ", ".join(TABLES[READING])
        hot = f"select {columns} from hot_reading as h"
        if not cold.files:
            run(f"create view tenant.reading as {hot}")
            return
        numbers = ", ".join(str(int(one)) for one in cold.export_ids) or "null"
        where = f"export_id in ({numbers})"
        if tenant_id is not None:
            where += (
                f" and tenant_id = {int(tenant_id)}"
                " and sensor_id in (select sensor_id from tenant.own_sensor)"
            )
        run(
            f"create view cold_reading as select {columns} from {_parquet(cold.files)}"
            f" where {where}"
        )
        key = ", ".join(KEY)
        # both have what is restored, came late a second time, or left just now: the cold one stays
        found = run(f"select min(ts), max(ts) from hot_reading where ts < {moment(cold.until)}")
        ((first, last),) = found.fetchall()
        if first is not None:
            run(
                f"create table doubled as select {key} from hot_reading semi join ("
                f"select {key} from cold_reading where ts between {moment(first)} and {moment(last)}"
                f") using ({key})"
            )
            hot += f" anti join doubled using ({key})"
        run(f"create view tenant.reading as select {columns} from cold_reading union all {hot}")

    def ask(self, text: str, sink: Sink) -> None:
        """Rows of one SELECT, as many as the sink takes. Raises Problem, Untranslatable."""
        with self._asking():
            found = self._connection.extract_statements(text)
            if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
                raise QueryRefused("sql: only SELECT is taken, of the views of the contract.")
            result = self._connection.execute(found[0])
            while sink.add(result.fetchmany(sink.room)):
                pass

    def interrupt(self) -> None:
        """End what runs."""
        self._connection.interrupt()

    def close(self) -> None:
        """Let go of everything."""
        with contextlib.suppress(duckdb.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _building(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as exc:
            raise _problem(exc, self._folder) from None

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (
            duckdb.BinderException,
            duckdb.CatalogException,
            duckdb.NotImplementedException,
            duckdb.ParserException,
        ) as exc:
            raise Untranslatable(_reason(exc)) from None
        except (
            duckdb.ConversionException,
            duckdb.InvalidInputException,
            duckdb.OutOfRangeException,
            duckdb.InvalidTypeException,
        ) as exc:
            if ".parquet" in str(exc):
                raise _problem(exc, self._folder) from None
            reason = _reason(exc)
            raise QueryRefused(f"sql: {reason}.", reason=reason) from None
        except duckdb.Error as exc:
            raise _problem(exc, self._folder) from None


def _parquet(files: list[str]) -> str:
    return f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"


def _reason(exc: duckdb.Error) -> str:
    if "division by zero" in str(exc):
        return "division by zero"
    line = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
    kind, _, rest = line.partition(": ")
    return (rest if kind.endswith("Error") and rest else line).rstrip(".")[:300]


def _problem(exc: duckdb.Error, folder: Path) -> Problem:
    # whoever interrupts says why
    if isinstance(exc, duckdb.OutOfMemoryException | duckdb.InterruptException):
        return QueryTooCostly(
            "sql: the query needs more memory or space than it may have; ask for less."
        )
    log.warning("archive_unreadable", error=_reason(exc), folder=str(folder))
    return Unavailable(
        "Readings that the query needs are in the archive, which can't be read right now.",
        headers={"Retry-After": "10"},
    )
