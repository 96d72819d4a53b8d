"""The statements of a query that PostgreSQL runs, on the connection of headwater_sql.

Rows come through a cursor, so no more are fetched than may be sent; DECLARE CURSOR is also the server's
own word that the text is a SELECT that changes nothing.
"""

import math

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, AsyncRawServerCursor

from app.db.pool import Connection
from app.errors import Problem, QueryRefused, QueryTooCostly, Unavailable
from app.query.answer import Basket, Column
from app.query.cost import Cost, cost_of
from app.settings import Settings

Parameter = str | int | float | bool | None


async def weigh(
    connection: Connection, texts: list[str], parameters: list[Parameter], settings: Settings
) -> Cost:
    """The plans together. Raises QueryTooCostly."""
    cost = rows = 0.0
    for text in texts:
        # rolled back: other nodes, which are asked for their plans, may answer with an error
        async with (
            connection.transaction(force_rollback=True),
            AsyncRawCursor(connection) as cursor,
        ):
            await cursor.execute(
                f"explain (format json) {text}".encode(), parameters, prepare=False
            )
            row = await cursor.fetchone()
        assert row is not None
        found = cost_of(row[0][0]["Plan"])
        cost += found.cost
        rows += found.rows
    check_cost(cost, settings)
    return Cost(cost, rows)


def check_cost(cost: float, settings: Settings) -> None:
    """Raises QueryTooCostly."""
    if cost > settings.sql_max_cost:
        said = one_digit(cost)
        raise QueryTooCostly(
            f"sql: the plan's cost is about {said:,.0f}, allowed are "
            f"{settings.sql_max_cost:,.0f}; ask for a shorter span, fewer sensors or a rollup.",
            cost=said,
            limit=settings.sql_max_cost,
        )


async def fetch(
    connection: AsyncConnection, text: str, parameters: list[Parameter], basket: Basket
) -> list[Column]:
    """Fill the basket; its columns."""
    async with AsyncRawServerCursor(connection, "answer") as cursor:
        await cursor.execute(text.encode(), parameters)
        columns = _columns(cursor)
        while basket.add(await cursor.fetchmany(basket.room)):
            pass
    return columns


async def describe(
    connection: AsyncConnection, text: str, parameters: list[Parameter]
) -> list[Column]:
    """The answer's columns; nothing runs."""
    async with AsyncRawServerCursor(connection, "described") as cursor:
        await cursor.execute(text.encode(), parameters)
        return _columns(cursor)


def _columns(cursor: AsyncRawServerCursor) -> list[Column]:
    return [Column(column.name, column.type_display) for column in cursor.description or ()]


def problem_of(exc: psycopg.Error, seconds: int) -> Problem:
    """What a database error means to whoever wrote the query."""
    state = exc.sqlstate or ""
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return too_long(seconds)
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


def too_long(seconds: int) -> QueryTooCostly:
    """The time is over."""
    return QueryTooCostly(
        f"sql: the query took longer than {seconds} s; ask for a shorter span, fewer sensors or a rollup."
    )


def one_digit(value: float) -> float:
    """As much of an estimate as may be told."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(value))
    return float(round(value / unit) * unit)
