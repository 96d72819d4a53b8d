"""Whether a statement stays in the database, is answered over hot and cold, or can't be.

Only where archived readings may be among what it reads is anything refused: whatever keeps to the
database's readings passes, also what the guard would not take. Constants mean what they mean in the
session that asks. A doubt refuses; it never hides a reading and never widens whose rows are seen.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache, partial

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout, TooManyRequests
from sqlglot import exp

from app.db.pool import Pool, pool_for
from app.db.queries import queries
from app.errors import Problem, QueryRefused, Unavailable
from app.identity.login import PLATFORM, login_tenant
from app.query.border import Reach, bounds_of, is_cold, reach, within_bounds
from app.query.cold import Span
from app.query.guard import check, outline, refused, render
from app.query.reach import Need, needs
from app.query.run import Question, begin, remedy, sql_pass
from app.query.translate import put
from app.relay.statement import Statement, spelled
from app.settings import Settings

SQL = queries("query")
EVERYWHERE: Span = (None, None)
QUOTES = "standard_conforming_strings"
"""Without it a text would be read otherwise than by the server."""
REPORTED = {
    "TimeZone": ("UTC", "Etc/UTC", "GMT"),
    "DateStyle": ("ISO, MDY",),
    "IntervalStyle": ("postgres",),
    "client_encoding": ("UTF8",),
    QUOTES: ("on",),
}
"""Settings of a session in which rows of the archive are told."""
POOL_SIZE = 2
WAIT_SECONDS = 10


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a statement: neither question nor problem sends it to the database."""

    within: Span | None = None
    """No reading between these times may have become cold once the database has answered."""
    question: Question | None = None
    problem: Problem | None = None

    @property
    def is_hot(self) -> bool:
        """Whether the database answers it."""
        return self.question is None and self.problem is None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement's text tells of it."""

    problem: QueryRefused | None
    """Why the guard does not take it."""
    bound: exp.Query | None = None
    """Its tree with the parameters' values; None: nobody can tell what it reads."""
    needs: list[Need] = []
    bounds: str | None = None
    """Evaluates from when to when its readings are; None: it reads none."""


class NoDoor(Exception):
    """The login is nobody whose rows are told here."""


class Judge:
    """Looks at statements, on connections of its own: it must not wait for people's queries."""

    def __init__(self, settings: Settings, main: Pool) -> None:
        self._settings = settings
        self._main = main
        self._is_archived = False  # once it is, this is not asked again
        self._pool = pool_for(
            settings.sql_database_url,
            application="headwater-relay",
            seconds=settings.sql_timeout_seconds,
            size=POOL_SIZE,
            is_read_only=True,
            min_size=0,
            timeout=WAIT_SECONDS,
        )

    async def start(self) -> None:
        """Open the pool; no server need be there yet."""
        await self._pool.open(wait=False)

    async def stop(self) -> None:
        """Close the pool."""
        await self._pool.close()

    async def tenant_of(self, login: str) -> int | None:
        """Whose rows a login sees; None: every tenant's. Raises NoDoor, Unavailable."""
        if login in PLATFORM:
            return None
        try:
            async with self._main.connection() as connection:
                found = await login_tenant(connection, login=login)
        except (psycopg.Error, PoolTimeout):
            raise _away() from None
        if found is None:
            raise NoDoor(login)
        return found

    async def may_be_cold(self, within: Span | None) -> bool:
        """Whether there may be archived readings between these times. Raises Unavailable."""
        try:
            return await is_cold(self._main.connection, within)
        except (psycopg.Error, PoolTimeout):
            raise _away() from None

    async def verdict(
        self,
        statement: Statement,
        login: str,
        reported: Mapping[str, str],
        values: list[exp.Expr] | None = None,
    ) -> Verdict:
        """Of a statement with these parameters, in a session with these settings."""
        try:
            self._is_archived = self._is_archived or await self.may_be_cold(EVERYWHERE)
            if not self._is_archived:
                return Verdict(within=EVERYWHERE)
            return await self._verdict(statement, login, reported, values or [])
        except NoDoor:
            return Verdict(
                problem=QueryRefused("sql: whose readings this login sees is not known.")
            )
        except Problem as exc:
            return Verdict(problem=exc)
        except (psycopg.Error, PoolTimeout, TooManyRequests):
            return Verdict(problem=_away())

    async def _verdict(
        self,
        statement: Statement,
        login: str,
        reported: Mapping[str, str],
        values: list[exp.Expr],
    ) -> Verdict:
        look = await asyncio.to_thread(
            partial(_look, values=values) if values else _known, statement.text
        )
        problem: Problem | None = look.problem
        if look.bound is None or reported.get(QUOTES) != "on":
            problem = _objection(statement, reported) or problem
            return Verdict(problem=await self._with_remedy(problem))
        if look.bounds is None:
            return Verdict()
        far = await self._reach(look, login, reported)
        if not far.is_cold:
            return Verdict(within=far.within)
        problem = problem or _objection(statement, reported)
        if problem is not None:
            return Verdict(problem=await self._with_remedy(problem))
        tenant_id = await self.tenant_of(login)
        return Verdict(question=Question(sql=render(look.bound), tenant_id=tenant_id))

    async def _reach(self, look: Look, login: str, reported: Mapping[str, str]) -> Reach:
        async with self._pool.connection() as connection, connection.transaction():
            await sql_reads_as(
                connection,
                timezone=reported.get("TimeZone", "UTC"),
                datestyle=reported.get("DateStyle", "ISO"),
            )
            within = await within_bounds(connection, look.bounds)
            main = self._main.connection
            far = Reach(within=within, is_cold=await is_cold(main, within))
            is_safe = look.problem is None and any(need.oldest for need in look.needs)
            if not far.is_cold or not is_safe:
                return far
            tenant_id = await self.tenant_of(login)
            async with main() as line:
                permit = await sql_pass(line, tenant_id=tenant_id)
            scope = await begin(connection, tenant_id, permit, self._settings)
            return await reach(connection, look.needs, scope, main)

    async def _with_remedy(self, problem: Problem | None) -> Problem:
        assert problem is not None
        if isinstance(problem, QueryRefused):
            problem = type(problem)(
                f"{problem.detail} {await remedy(self._main.connection)}", **problem.extra
            )
        return problem


async def sql_reads_as(connection: AsyncConnection, *, timezone: str, datestyle: str) -> None:
    """In this transaction constants of time are read as with these settings."""
    arguments = {"timezone": timezone, "datestyle": datestyle}
    await connection.execute(SQL["sql_reads_as"], arguments)


def _look(text: str, values: list[exp.Expr]) -> Look:
    """With these for its parameters."""
    tree, problem = _read(text, len(values))
    if tree is None:
        return Look(problem=problem)
    bound = put(tree, values)
    found = needs(bound)
    try:
        return Look(problem=problem, bound=bound, needs=found, bounds=bounds_of(found))
    except QueryRefused as exc:
        return Look(problem=problem or exc)


@lru_cache(maxsize=256)
def _known(text: str) -> Look:
    """Most programs ask the same again and again; nobody changes it."""
    return _look(text, [])


def _read(text: str, parameters: int) -> tuple[exp.Query | None, QueryRefused | None]:
    """The tree, and why it is not taken; no tree: it can't be read at all."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None, refused("the text is not UTF-8")
    text = spelled(text)
    try:
        return check(text, parameters), None
    except QueryRefused as exc:
        problem = exc
    try:
        tree = outline(text)
    except QueryRefused:
        return None, problem
    numbers = [str(node.this) for node in tree.find_all(exp.Parameter)]
    is_known = all(one.isdecimal() and 1 <= int(one) <= parameters for one in numbers)
    return tree if is_known else None, problem


def _objection(statement: Statement, reported: Mapping[str, str]) -> Problem | None:
    if statement.objection is not None:
        return refused(statement.objection)
    for name, understood in REPORTED.items():
        if (value := reported.get(name)) not in understood:
            return refused(
                f"archived readings are told with {name} {understood[0]}, and it is {value} here; "
                f"set {name} = '{understood[0]}'"
            )
    return None


def _away() -> Unavailable:
    return Unavailable("The database can't be reached; try again.")
