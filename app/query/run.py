"""Runs one query of a person: through the guard, as headwater_sql, in a read-only transaction.

The transaction carries a pass for the caller's tenant (sql/analytics/tenant_pass.sql), time-outs and
modest memory, all of which end with it. Rows come through a cursor, so no more are fetched than may be
sent; DECLARE CURSOR is also the server's own word that the text is a SELECT that changes nothing. A
caller that is cancelled has the statement cancelled in the server, too.
"""

import asyncio
import math
import time
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, AsyncRawServerCursor
from psycopg.rows import scalar_row
from psycopg_pool import PoolTimeout, TooManyRequests

from app.db.pool import Connection, Pool, pool_for
from app.db.queries import queries
from app.errors import Problem, QueryRefused, QueryTooCostly, Unavailable
from app.query.answer import Answer, Column, Scanned, size
from app.query.cost import cost_of
from app.query.guard import MOST_IDS, Scope, check, render, rewrite, views
from app.settings import Settings

SQL = queries("query")
BATCH_BYTES = 1_000_000
MOST_BATCH_ROWS = 5_000
GRACE_SECONDS = 5.0

Parameter = str | int | float | bool | None


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


class Desk:
    """Takes people's queries, a few at a time."""

    def __init__(self, settings: Settings, main: Pool) -> None:
        self._settings = settings
        self._main = main
        self._pool: Pool | None = None
        if settings.sql_database_url:
            self._pool = pool_for(
                settings.sql_database_url,
                application="headwater-sql",
                seconds=settings.sql_timeout_seconds,
                size=settings.sql_pool_size,
                is_read_only=True,
                min_size=0,
                max_waiting=settings.sql_pool_size * 8,
                timeout=10,
            )

    async def start(self) -> None:
        """Open the pool; no server need be there yet."""
        if self._pool is not None:
            await self._pool.open(wait=False)

    async def stop(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.close()

    async def answer(self, question: Question) -> Answer:
        """Raises QueryRefused, QueryTooCostly, Unavailable."""
        if self._pool is None:
            raise Unavailable("People's SQL is not set up here: SQL_DATABASE_URL is empty.")
        async with self._main.connection() as main:
            permit = await sql_pass(main, tenant_id=question.tenant_id)
            hot_from = await sql_hot_from(main)
        try:
            async with self._pool.connection() as connection:
                return await run(connection, question, permit, hot_from, self._settings)
        except (PoolTimeout, TooManyRequests):
            raise Unavailable(
                "Too many queries run at this moment; try again.", headers={"Retry-After": "5"}
            ) from None


async def run(
    connection: Connection,
    question: Question,
    permit: str,
    hot_from: datetime | None,
    settings: Settings,
) -> Answer:
    """One query on a connection whose transactions are read-only. Raises QueryRefused, QueryTooCostly.

    Everything runs in PostgreSQL. This is the place to choose another engine for a query that needs
    readings from before `hot_from`; until there is one, the answer says what is not in it.
    """
    began = time.monotonic()
    tree = await asyncio.to_thread(check, question.sql, len(question.parameters))
    seconds = settings.sql_timeout_seconds
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS), connection.transaction():
            await connection.execute(
                SQL["sql_begin"], {"pass": permit, "timeout": f"{seconds}s"}, prepare=False
            )
            scope = await _scope(connection, question.tenant_id)
            text = await asyncio.to_thread(lambda: render(rewrite(tree, scope)))
            scanned = await _weigh(connection, text, question.parameters, settings)
            columns, rows, truncated = await _fetch(connection, text, question, settings)
    except TimeoutError:
        raise _too_long(seconds) from None
    except psycopg.Error as exc:
        raise problem_of(exc, seconds) from None
    return Answer(
        columns=columns,
        rows=rows,
        row_count=len(rows),
        truncated=truncated,
        engine="postgresql",
        scanned=scanned,
        seconds=round(time.monotonic() - began, 4),
        hot_from=hot_from if "reading" in views(tree) else None,
    )


async def _scope(connection: AsyncConnection, tenant_id: int | None) -> Scope:
    if tenant_id is None:
        return Scope(tenant_id=None)
    found = await sql_sensors(connection, tenant_id=tenant_id, count=MOST_IDS + 1)
    return Scope(tenant_id=tenant_id, sensor_ids=found if len(found) <= MOST_IDS else None)


async def _weigh(
    connection: AsyncConnection, text: str, parameters: list[Parameter], settings: Settings
) -> Scanned:
    """The plan's cost. Raises QueryTooCostly."""
    # rolled back: other nodes, which are asked for their plans, may answer with an error
    async with connection.transaction(force_rollback=True), AsyncRawCursor(connection) as cursor:
        await cursor.execute(f"explain (format json) {text}".encode(), parameters, prepare=False)
        row = await cursor.fetchone()
    assert row is not None
    cost, rows = cost_of(row[0][0]["Plan"])
    scanned = Scanned(cost=_one_digit(cost), rows=_one_digit(rows))
    if cost > settings.sql_max_cost:
        raise QueryTooCostly(
            f"sql: the plan's cost is about {scanned.cost:,.0f}, allowed are "
            f"{settings.sql_max_cost:,.0f}; ask for a shorter span, fewer sensors or a rollup.",
            cost=scanned.cost,
            limit=settings.sql_max_cost,
        )
    return scanned


async def _fetch(
    connection: AsyncConnection, text: str, question: Question, settings: Settings
) -> tuple[list[Column], list[tuple[Any, ...]], bool]:
    """Columns, rows up to the caps, and whether there are more."""
    limit = min(question.limit, settings.sql_max_rows)
    rows: list[tuple[Any, ...]] = []
    total = 0
    step = 100
    async with AsyncRawServerCursor(connection, "answer") as cursor:
        await cursor.execute(text.encode(), question.parameters)
        columns = [Column(column.name, column.type_display) for column in cursor.description or ()]
        while True:
            batch = await cursor.fetchmany(min(step, limit + 1 - len(rows)))
            rows += batch
            total += size(batch)
            if len(rows) > limit:
                return columns, rows[:limit], True
            if len(batch) == 0:
                return columns, rows, False
            if total > settings.sql_max_bytes:
                while total > settings.sql_max_bytes and rows:
                    total -= size((rows.pop(),))
                return columns, rows, True
            each = max(1, total // len(rows))
            step = max(1, min(MOST_BATCH_ROWS, BATCH_BYTES // each))


def problem_of(exc: psycopg.Error, seconds: int) -> Problem:
    """What a database error means to whoever wrote the query."""
    state = exc.sqlstate or ""
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return _too_long(seconds)
    if state.startswith("53"):
        return QueryTooCostly(
            "sql: the query needs more memory or space than it may have; ask for less."
        )
    if not state and isinstance(exc, psycopg.DataError):
        return QueryRefused(
            "sql: a value can't be shown, such as a time outside of the years 1 to 9999; "
            "cast it to text."
        )
    if not state or state.startswith(("08", "57")):
        return Unavailable(
            "The database can't be reached; try again.", headers={"Retry-After": "1"}
        )
    reason = exc.diag.message_primary or "the server refuses it"
    return QueryRefused(f"sql: {reason[:500]}.", reason=reason[:500], sqlstate=state)


def _too_long(seconds: int) -> QueryTooCostly:
    return QueryTooCostly(
        f"sql: the query took longer than {seconds} s; ask for a shorter span, fewer sensors or a rollup."
    )


def _one_digit(value: float) -> float:
    if value <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(value))
    return float(round(value / unit) * unit)
