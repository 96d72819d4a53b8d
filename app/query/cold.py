"""A query that reaches archived readings, answered by DuckDB over hot and cold.

`prepare` runs in the guarded transaction: PostgreSQL checks the statement, names the answer's columns and
types, reads the constants of time and weighs what is to be fetched. `answer` fetches that, and only then
asks which exports are cold: a chunk that is dropped in between was read hot, one that was dropped before
is in the list, and what both have is taken once. Then DuckDB is locked up with these rows (engine.py).
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from psycopg import AsyncConnection
from psycopg.rows import scalar_row, tuple_row
from sqlglot import exp

from app.archive.lake import beside, home
from app.archive.place import Place
from app.db.pool import Connection
from app.db.queries import queries
from app.errors import CommandError, Unavailable
from app.query.answer import Column, Sink
from app.query.cost import Cost
from app.query.duckdb_functions import cast
from app.query.engine import Cold, Engine
from app.query.gather import gather
from app.query.guard import render
from app.query.hot import check_cost, weigh
from app.query.reach import Need, condition, needs
from app.query.scope import Scope, rewrite
from app.query.translate import MOMENTS, constants, span, translate
from app.query.values import converters
from app.query.words import TABLES
from app.settings import Settings

log = structlog.get_logger()

SQL = queries("query")
OWN = "own_sensor"
"""Name of the tenant's sensors' numbers beside the views."""
Main = Callable[[], AbstractAsyncContextManager[AsyncConnection]]
"""The API's own connection, which sees the archive's books."""
Span = tuple[datetime | None, datetime | None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is fetched from the database, and what DuckDB is asked then."""

    text: str
    columns: list[Column]
    loads: dict[str, str]
    scan: Cost
    within: Span
    tenant_id: int | None


class Converted:
    """Puts DuckDB's values into a sink as PostgreSQL would have given them."""

    def __init__(self, sink: Sink, kinds: list[str]) -> None:
        self._sink = sink
        self._convert = converters(kinds)

    @property
    def room(self) -> int:
        return self._sink.room

    def add(self, batch: list[tuple[Any, ...]]) -> bool:
        return self._sink.add(
            [
                tuple(one(value) for one, value in zip(self._convert, row, strict=True))
                for row in batch
            ]
        )

    def close(self) -> None:
        self._sink.close()


def loads(needs: list[Need], scope: Scope) -> dict[str, str]:
    """A statement for each view, over the scope's rows, no wider than the query needs."""
    found: dict[str, str] = {}
    for view in dict.fromkeys(need.view for need in needs):
        columns = [exp.column(exp.to_identifier(name, True)) for name in TABLES[view]]
        rows = exp.select(*columns).from_(exp.table_(view, quoted=True))
        needed = condition([need for need in needs if need.view == view])
        found[view] = render(rewrite(rows.where(needed) if needed is not None else rows, scope))
    if scope.tenant_id is not None:
        own = exp.select(exp.column(exp.to_identifier("sensor_id", True)))
        found[OWN] = render(rewrite(own.from_(exp.table_("sensor", quoted=True)), scope))
    return found


async def prepare(
    connection: Connection,
    bound: exp.Query,
    columns: list[Column],
    *,
    scope: Scope,
    within: Span,
    settings: Settings,
) -> Plan:
    """The plan of a bound tree. Raises Untranslatable, QueryTooCostly, psycopg.Error."""
    converters([column.type for column in columns])
    fetched = loads(needs(bound), scope)
    scan = await weigh(connection, list(fetched.values()), [], settings)
    tree = rewrite(bound, Scope(tenant_id=None))
    now = await _fixed(connection, tree)
    return Plan(
        text=await asyncio.to_thread(translate, tree, now),
        columns=columns,
        loads=fetched,
        scan=scan,
        within=within,
        tenant_id=scope.tenant_id,
    )


async def _fixed(connection: AsyncConnection, tree: exp.Query) -> datetime:
    """Put what PostgreSQL reads in the constants of time in their places; its now."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        for node in constants(tree):
            kind = MOMENTS.get(node.to.this)
            arguments = {"text": str(node.this.this), "kind": kind}
            await cursor.execute(SQL["sql_interval" if kind is None else "sql_moment"], arguments)
            row = await cursor.fetchone()
            assert row is not None
            node.replace(span(*row) if kind is None else cast(exp.Literal.string(row[0]), kind))
        await cursor.execute(SQL["sql_now"])
        row = await cursor.fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


async def exports_cold(main: Main, within: Span) -> list[int]:
    """Exports that count and may hold readings from then to then."""
    async with main() as connection, connection.cursor(row_factory=scalar_row) as cursor:
        lower, upper = within
        await cursor.execute(SQL["sql_cold_exports"], {"lower": lower, "upper": upper})
        return await cursor.fetchall()


async def files_cold(main: Main, plan: Plan, place: Place) -> Cold:
    """The files of the tenant's cold readings. Raises Unavailable."""
    exports = await exports_cold(main, plan.within)
    async with main() as connection, connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(SQL["sql_lake"])
        row = await cursor.fetchone()
        if row is None or row[1] != place.data_path:
            log.warning("archive_unreadable", error="ARCHIVE_URL is not where the lake's files are")
            raise Unavailable(
                "The query reaches into the archive, which is not set up here (ARCHIVE_URL)."
            )
        arguments = {
            "data_path": place.data_path,
            "tenant_id": plan.tenant_id,
            "export_ids": exports,
        }
        await cursor.execute(SQL["sql_cold_files"], arguments)
        files = [one for one in await cursor.fetchall() if one[3] < one[1]]
    if any(deleted for *_, deleted in files):
        raise Unavailable("The archive holds files with deleted rows, which are not read here.")
    return Cold(
        files=[path for path, *_ in files],
        export_ids=exports,
        until=row[0],
        row_count=sum(count for _, count, *_ in files),
        byte_count=sum(size for *_, size, _ in files),
    )


async def answer(
    connection: Connection,
    plan: Plan,
    sink: Sink,
    *,
    main: Main,
    permit: str,
    settings: Settings,
) -> Cold:
    """Rows to the sink; what is cold of them. Raises Problem, Untranslatable."""
    try:
        place = Place.of(settings)
    except CommandError as exc:
        raise Unavailable(f"The query reaches into the archive: {exc}.") from None
    # looked at before anything is fetched: is it there, is it too much
    cold = await files_cold(main, plan, place)
    check_cost(plan.scan.cost + cold.cost, settings)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="sql-", dir=home()))
    try:
        hot = await gather(connection, plan.loads, folder, permit=permit, settings=settings)
        cold = await files_cold(main, plan, place)
        engine = await asyncio.to_thread(Engine, folder, memory_mb=settings.sql_memory_mb)
        rows = Converted(sink, [column.type for column in plan.columns])

        def work() -> None:
            engine.open(hot, cold, place, plan.tenant_id)
            engine.ask(plan.text, rows)

        def interrupt() -> None:
            engine.interrupt()
            sink.close()

        try:
            await beside(work, interrupt)
        finally:
            engine.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return cold
