"""Runs one query of a person: through the guard, as headwater_sql, in a read-only transaction.

The transaction carries a pass for the caller's tenant (sql/analytics/tenant_pass.sql), time-outs and
modest memory, all of which end with it. PostgreSQL answers what reads no archived reading (hot.py),
DuckDB the rest (cold.py), of which PostgreSQL still checks the statement and names the columns. A caller
that is cancelled has the statement cancelled in either.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import scalar_row
from sqlglot import exp

from app.db.pool import Connection
from app.db.queries import queries
from app.errors import QueryRefused, Unavailable
from app.query.answer import Answer, Basket, Scanned, cell
from app.query.cold import Main, Plan, Span, answer, exports_cold, prepare
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
from app.query.reach import Need, needs
from app.query.scope import MOST_IDS, Scope, rewrite
from app.query.sources import READING
from app.query.translate import bind
from app.settings import Settings

SQL = queries("query")
GRACE_SECONDS = 5.0
FIRST, LAST = "0001-01-02 00:00:00+00", "9999-12-30 00:00:00+00"
"""Times that Python can tell, too."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A query, and whose rows it may see."""

    sql: str
    parameters: list[Parameter] = []
    limit: int
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
    seconds = settings.sql_timeout_seconds
    plan: Plan | None = None
    cold: Cold | None = None
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            async with connection.transaction():
                await connection.execute(
                    SQL["sql_begin"], {"pass": permit, "timeout": f"{seconds}s"}, prepare=False
                )
                scope = await _scope(connection, question.tenant_id)
                text = await asyncio.to_thread(lambda: render(rewrite(tree, scope)))
                scan = await weigh(connection, [text], question.parameters, settings)
                bound = bind(tree, question.parameters)
                found = needs(bound)
                within = await _within(connection, found)
                is_cold = await _is_cold(main, within)
                if is_cold and any(need.oldest for need in found):
                    found = [await _reaching(connection, need, scope) for need in found]
                    within = await _within(connection, found)
                    is_cold = await _is_cold(main, within)
                if not is_cold:
                    basket = Basket.of(question.limit, settings)
                    columns = await fetch(connection, text, question.parameters, basket)
                    # what was archived meanwhile may be missing in it
                    is_cold = await _is_cold(main, within)
                if within is not None and is_cold:
                    columns = await describe(connection, text, question.parameters)
                    plan = await prepare(
                        connection, bound, columns, scope=scope, within=within, settings=settings
                    )
                    scan = plan.scan
            if plan is not None:
                basket = Basket.of(question.limit, settings)
                # DuckDB has no time-out of its own
                async with asyncio.timeout(seconds - (time.monotonic() - began)):
                    cold = await answer(
                        connection, plan, basket, main=main, permit=permit, settings=settings
                    )
    except Unavailable as exc:
        if plan is not None:
            exc.detail += f" {await _remedy(main)}"
        raise
    except TimeoutError:
        raise too_long(seconds) from None
    except psycopg.Error as exc:
        raise problem_of(exc, seconds) from None
    except Untranslatable as exc:
        raise await _not_the_same(main, exc) from None
    return Answer(
        columns=columns,
        rows=basket.rows,
        row_count=len(basket.rows),
        truncated=basket.is_truncated,
        engine="duckdb" if plan is not None else "postgresql",
        scanned=_told(scan, cold),
        seconds=round(time.monotonic() - began, 4),
    )


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


async def _within(connection: AsyncConnection, found: list[Need]) -> Span | None:
    """From when to when the query's readings are; None: it reads none."""
    readings = [need for need in found if need.view == READING]
    if not readings:
        return None
    lowest = [_bound("greatest", need.lower) for need in readings]
    highest = [_bound("least", need.upper) for need in readings]
    row = await _evaluated(connection, [*lowest, *highest])
    count = len(readings)
    return _outermost(min, row[:count]), _outermost(max, row[count:])


async def _reaching(connection: AsyncConnection, need: Need, scope: Scope) -> Need:
    """Bounded by the oldest of the newest readings, where the database has as many as are asked for."""
    if need.oldest is None:
        return need
    text = render(rewrite(need.oldest, scope))
    async with AsyncRawCursor(connection, row_factory=scalar_row) as cursor:
        await cursor.execute(text.encode(), prepare=False)
        found: datetime | None = await cursor.fetchone()
    if found is None:
        return need
    oldest = _moment(exp.Literal.string(found.isoformat()))
    return msgspec.structs.replace(need, lower=[*need.lower, oldest])


def _bound(name: str, bounds: list[exp.Expr]) -> exp.Expr:
    """The narrowest of some bounds, within what can be told as a time."""
    if not bounds:
        return exp.Null()
    moments: list[exp.Expr] = [_moment(bound.copy()) for bound in bounds]
    narrowest = exp.Anonymous(this=name, expressions=moments)
    nearest = exp.Anonymous(
        this="least", expressions=[narrowest, _moment(exp.Literal.string(LAST))]
    )
    return exp.Anonymous(this="greatest", expressions=[nearest, _moment(exp.Literal.string(FIRST))])


def _moment(node: exp.Expr) -> exp.Cast:
    return exp.Cast(this=node, to=exp.DataType.build("timestamptz", dialect="postgres"))


async def _evaluated(connection: AsyncConnection, values: list[exp.Expr]) -> list[datetime | None]:
    """What PostgreSQL makes of constants that the guard approved."""
    text = render(rewrite(exp.select(*values), Scope(tenant_id=None)))
    async with AsyncRawCursor(connection) as cursor:
        await cursor.execute(text.encode(), prepare=False)
        row = await cursor.fetchone()
    assert row is not None
    return list(row)


def _outermost(
    choose: Callable[[list[datetime]], datetime], moments: list[datetime | None]
) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return choose(known) if len(known) == len(moments) else None


async def _is_cold(main: Main, within: Span | None) -> bool:
    return within is not None and bool(await exports_cold(main, within))


async def _not_the_same(main: Main, exc: Untranslatable) -> QueryRefused:
    return QueryRefused(
        f"sql: not to be had over archived readings: {exc}. {await _remedy(main)}", reason=str(exc)
    )


async def _remedy(main: Main) -> str:
    """How to stay out of the archive."""
    async with main() as connection:
        since = cell(await sql_hot_from(connection))
    return f"Those since {since} are in the database: add ts >= '{since}' to ask for no others."


async def _scope(connection: AsyncConnection, tenant_id: int | None) -> Scope:
    if tenant_id is None:
        return Scope(tenant_id=None)
    found = await sql_sensors(connection, tenant_id=tenant_id, count=MOST_IDS + 1)
    return Scope(tenant_id=tenant_id, sensor_ids=found if len(found) <= MOST_IDS else None)
