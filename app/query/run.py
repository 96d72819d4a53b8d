"""Runs one query of a person: through the guard, as headwater_sql, in a read-only transaction.

The transaction carries a pass for the caller's tenant (sql/analytics/tenant_pass.sql), time-outs and
modest memory, all of which end with it. PostgreSQL answers what reads no archived reading (hot.py),
DuckDB the rest (cold.py), of which PostgreSQL still checks the statement and names the columns. A caller
that is cancelled has the statement cancelled in either.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import scalar_row
from sqlglot import exp

from app.db.pool import Connection
from app.db.queries import queries
from app.errors import QueryRefused, Unavailable
from app.query.answer import Answer, Basket, Column, Scanned, Sink, cell
from app.query.border import Reach, is_cold, reach
from app.query.cold import Main, Plan, Span, answer, prepare
from app.query.cost import Cost
from app.query.duckdb_functions import Untranslatable
from app.query.engine import Cold
from app.query.guard import check, render
from app.query.hot import (
    Parameter,
    describe,
    fetch,
    one_digit,
    problem_of,
    too_long,
    weigh,
)
from app.query.reach import needs
from app.query.scope import MOST_IDS, Scope, rewrite
from app.query.translate import bind
from app.settings import Settings

SQL = queries("query")
GRACE_SECONDS = 5.0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A query, and whose rows it may see."""

    sql: str
    parameters: list[Parameter] = []
    limit: int = 0
    """Most rows of an `Answer`."""
    tenant_id: int | None
    """None: every tenant."""


async def sql_pass(connection: AsyncConnection, *, tenant_id: int | None) -> str:
    """A pass to a tenant's rows; the connection is the API's main one."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["sql_pass"], {"tenant_id": tenant_id})
        return str(await cursor.fetchone())


async def sql_hot_from(connection: AsyncConnection) -> datetime | None:
    """From here on no reading is archived; None: none is at all."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["sql_hot_from"])
        return await cursor.fetchone()


async def sql_sensors(connection: AsyncConnection, *, tenant_id: int, count: int) -> list[int]:
    """The tenant's sensors, at most `count`."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["sql_sensors"], {"tenant_id": tenant_id, "count": count})
        return await cursor.fetchall()


async def run(
    connection: Connection, question: Question, permit: str, main: Main, settings: Settings
) -> Answer:
    """One query on a connection whose transactions are read-only. Raises Problem."""
    began = time.monotonic()
    tree = await asyncio.to_thread(check, question.sql, len(question.parameters))
    plan: Plan | None = None
    cold: Cold | None = None
    async with _in_words(main, settings):
        async with connection.transaction():
            asked = await _asked(
                connection, tree, question, permit=permit, main=main, settings=settings
            )
            scan, within = asked.cost, asked.reach.within
            is_archived = asked.reach.is_cold
            if not is_archived:
                basket = Basket.of(question.limit, settings)
                columns = await fetch(connection, asked.text, question.parameters, basket)
                # what was archived meanwhile may be missing in it
                is_archived = await is_cold(main, within)
            if within is not None and is_archived:
                plan, columns = await _planned(connection, asked, question, within, settings)
                scan = plan.scan
        if plan is not None:
            basket = Basket.of(question.limit, settings)
            cold = await _cold(
                connection, plan, basket, permit=permit, main=main, settings=settings, began=began
            )
    return Answer(
        columns=columns,
        rows=basket.rows,
        row_count=len(basket.rows),
        truncated=basket.is_truncated,
        engine="duckdb" if plan is not None else "postgresql",
        scanned=_told(scan, cold),
        seconds=round(time.monotonic() - began, 4),
    )


async def stream(
    connection: Connection,
    question: Question,
    permit: str,
    *,
    main: Main,
    settings: Settings,
    sink: Sink,
) -> None:
    """As `run`, but always of hot and cold, and each row goes to `sink` as it comes. Raises Problem."""
    began = time.monotonic()
    tree = await asyncio.to_thread(check, question.sql, len(question.parameters))
    async with _in_words(main, settings):
        async with connection.transaction():
            asked = await _asked(
                connection, tree, question, permit=permit, main=main, settings=settings
            )
            within = asked.reach.within or (None, None)
            plan, _ = await _planned(connection, asked, question, within, settings)
        await _cold(
            connection, plan, sink, permit=permit, main=main, settings=settings, began=began
        )


async def begin(
    connection: AsyncConnection, tenant_id: int | None, permit: str, settings: Settings
) -> Scope:
    """What the transaction begins with: the pass and the limits; whose rows it sees."""
    limits = {"pass": permit, "timeout": f"{settings.sql_timeout_seconds}s"}
    await connection.execute(SQL["sql_begin"], limits, prepare=False)
    return await _scope(connection, tenant_id)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question that may be asked."""

    scope: Scope
    text: str
    """What PostgreSQL executes."""
    cost: Cost
    bound: exp.Query
    """With the parameters in it."""
    reach: Reach


async def _asked(
    connection: Connection,
    tree: exp.Query,
    question: Question,
    *,
    permit: str,
    main: Main,
    settings: Settings,
) -> _Asked:
    """Begin the transaction, weigh the query, find how far back it reaches. Raises QueryTooCostly."""
    scope = await begin(connection, question.tenant_id, permit, settings)
    text = await asyncio.to_thread(lambda: render(rewrite(tree, scope)))
    cost = await weigh(connection, [text], question.parameters, settings)
    bound = bind(tree, question.parameters)
    found = await reach(connection, needs(bound), scope, main)
    return _Asked(scope=scope, text=text, cost=cost, bound=bound, reach=found)


async def _planned(
    connection: Connection, asked: _Asked, question: Question, within: Span, settings: Settings
) -> tuple[Plan, list[Column]]:
    """How DuckDB answers over hot and cold, and the columns as PostgreSQL names them."""
    columns = await describe(connection, asked.text, question.parameters)
    plan = await prepare(
        connection, asked.bound, columns, scope=asked.scope, within=within, settings=settings
    )
    return plan, columns


async def _cold(
    connection: Connection,
    plan: Plan,
    sink: Sink,
    *,
    permit: str,
    main: Main,
    settings: Settings,
    began: float,
) -> Cold:
    """DuckDB's rows to the sink, in what is left of the time."""
    left = settings.sql_timeout_seconds - (time.monotonic() - began)
    try:
        async with asyncio.timeout(left):  # DuckDB has no time-out of its own
            return await answer(connection, plan, sink, main=main, permit=permit, settings=settings)
    except Unavailable as exc:
        exc.detail += f" {await remedy(main)}"
        raise


@asynccontextmanager
async def _in_words(main: Main, settings: Settings) -> AsyncIterator[None]:
    """Whatever goes wrong, and a time that is over, as a Problem."""
    seconds = settings.sql_timeout_seconds
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            yield
    except TimeoutError:
        raise too_long(seconds) from None
    except psycopg.Error as exc:
        raise problem_of(exc, seconds) from None
    except Untranslatable as exc:
        raise await _not_the_same(main, exc) from None


def _told(scan: Cost, cold: Cold | None) -> Scanned:
    if cold is None:
        return Scanned(cost=one_digit(scan.cost), rows=one_digit(scan.rows))
    return Scanned(
        cost=one_digit(scan.cost + cold.cost),
        rows=one_digit(scan.rows),
        cold_files=len(cold.files),
        cold_rows=cold.row_count,
        cold_bytes=cold.byte_count,
    )


async def _not_the_same(main: Main, exc: Untranslatable) -> QueryRefused:
    return QueryRefused(
        f"sql: not to be had over archived readings: {exc}. {await remedy(main)}", reason=str(exc)
    )


async def remedy(main: Main) -> str:
    """How to stay out of the archive."""
    async with main() as connection:
        since = cell(await sql_hot_from(connection))
    return f"Those since {since} are in the database: add ts >= '{since}' to ask for no others."


async def _scope(connection: AsyncConnection, tenant_id: int | None) -> Scope:
    if tenant_id is None:
        return Scope(tenant_id=None)
    found = await sql_sensors(connection, tenant_id=tenant_id, count=MOST_IDS + 1)
    return Scope(tenant_id=tenant_id, sensor_ids=found if len(found) <= MOST_IDS else None)
