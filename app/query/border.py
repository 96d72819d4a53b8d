"""Whether a query reaches back across the border between the database's readings and archived ones.

PostgreSQL evaluates the constants that bound `ts`. A query that only wants the newest readings reaches as
far as the oldest of those. Whatever can't be told reaches all the way back.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import scalar_row
from sqlglot import exp

from app.query.cold import Main, Span, exports_cold
from app.query.guard import render
from app.query.reach import Need
from app.query.scope import Scope, rewrite
from app.query.sources import READING

FIRST, LAST = "0001-01-02 00:00:00+00", "9999-12-30 00:00:00+00"
"""Times that Python can tell, too."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when a query's readings are, and whether archived ones may be among them."""

    within: Span | None
    """None: it reads none."""
    is_cold: bool


async def reach(connection: AsyncConnection, found: list[Need], scope: Scope, main: Main) -> Reach:
    """By the conditions first; only where that is not enough by the newest readings."""
    within = await within_bounds(connection, bounds_of(found))
    cold = await is_cold(main, within)
    if cold and any(need.oldest for need in found):
        nearer = [await _to_the_oldest(connection, need, scope) for need in found]
        within = await within_bounds(connection, bounds_of(nearer))
        cold = await is_cold(main, within)
    return Reach(within=within, is_cold=cold)


async def is_cold(main: Main, within: Span | None) -> bool:
    """Whether there may be archived readings between these times."""
    return within is not None and bool(await exports_cold(main, within))


def bounds_of(found: list[Need]) -> str | None:
    """The statement that evaluates them; None: no readings are read. Raises QueryRefused."""
    readings = [need for need in found if need.view == READING]
    if not readings:
        return None
    lowest = [_bound("greatest", need.lower) for need in readings]
    highest = [_bound("least", need.upper) for need in readings]
    return render(rewrite(exp.select(*lowest, *highest), Scope(tenant_id=None)))


async def within_bounds(connection: AsyncConnection, bounds: str | None) -> Span | None:
    """From when to when readings are, as PostgreSQL makes times of the constants; None: none are read."""
    if bounds is None:
        return None
    async with AsyncRawCursor(connection) as cursor:
        await cursor.execute(bounds.encode(), prepare=False)
        row = await cursor.fetchone()
    assert row is not None
    count = len(row) // 2
    return _outermost(min, list(row[:count])), _outermost(max, list(row[count:]))


async def _to_the_oldest(connection: AsyncConnection, need: Need, scope: Scope) -> Need:
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


def _outermost(
    choose: Callable[[list[datetime]], datetime], moments: list[datetime | None]
) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return choose(known) if len(known) == len(moments) else None
