"""Brings a database up to date with the files, one migrator at a time.

Invariants: one session advisory lock is held from before the ledger is read until the end, so the
connection must be direct, not through a transaction pooler; nothing is applied while anything is
wrong with the history. A run that fails or is killed leaves what was committed before, and the
next run goes on from there.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection

from app.errors import CommandError
from app.migrate import ledger as book
from app.migrate import nodes
from app.migrate.lease import address, alive
from app.migrate.places import is_spread, read_places
from app.migrate.plan import Plan, Row, make_plan
from app.migrate.run import NOTICE_DEATH, RETRY_PAUSES, Done, Report, Run, one_line
from app.migrate.source import File, read_migrations, read_sql
from app.paths import MIGRATIONS, SQL

LOCK_KEY = 0x68656164_77617465  # "headwate"; advisory locks are per database
LOCK_WAIT_SECONDS = 300.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did."""

    applied: tuple[Done, ...]
    forgotten: tuple[str, ...]
    editions: tuple[str, ...]
    seconds: float


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where a database stands against the files."""

    rows: tuple[Row, ...]
    steps: tuple[tuple[str, str], ...]
    """What a run would do, in order: (file, reason)."""
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    editions: tuple[str, ...]

    @property
    def complaint(self) -> str | None:
        """One line for whoever needs a current database; None if it is."""
        if self.problems:
            return "; ".join(self.problems)
        if not self.steps:
            return None
        files = ", ".join(file for file, _ in self.steps[:3])
        more = f" and {len(self.steps) - 3} more" if len(self.steps) > 3 else ""
        return f"the database is behind: {files}{more}; run: headwater migrate"


async def migrate(
    url: str,
    *,
    migrations: Path = MIGRATIONS,
    sql: Path = SQL,
    report: Report = lambda line: None,
    lock_wait: float = LOCK_WAIT_SECONDS,
    retry_pauses: Sequence[float] = RETRY_PAUSES,
) -> Result:
    """Bring the database up to date; raises CommandError with the remedy when that can't be."""
    started = time.monotonic()
    files, repeatables = read_migrations(migrations), read_sql(sql)
    async with alone(url, lock_wait, report) as conn:
        await book.prepare(conn)
        await book.hand_over(conn)
        run = Run(conn, report, tuple(retry_pauses))
        plan = _sound(make_plan(files, repeatables, await book.read(conn)))
        run.is_spread = await is_spread(conn)
        for step in plan.migrations:
            if step.file.edition == "citus":
                await prepare_workers(conn, url)
            await run.once(step)
            run.is_spread |= step.file.edition == "citus"
            await book.hand_over(conn)  # an early one creates the owner role
        plan = _sound(make_plan(files, repeatables, await book.read(conn)))
        for note in plan.notes:
            report(f"note: {note}")
        is_distributed = "citus" in (plan.editions or ())
        if is_distributed:
            run.placements = (await read_places(conn)).references
        await run.together(plan, max((file.number or 0 for file in files), default=0))
        for step in plan.after:
            await run.once(step)
        if is_distributed:
            await bring_up_workers(conn, url, applicable(repeatables, plan), report)
    return Result(
        applied=tuple(run.done),
        forgotten=plan.forget,
        editions=tuple(sorted(plan.editions or ())),
        seconds=time.monotonic() - started,
    )


def applicable(files: list[File], plan: Plan) -> list[File]:
    """The files of the editions that the database has."""
    return [file for file in files if file.edition in {"any", *(plan.editions or ())}]


async def prepare_workers(conn: AsyncConnection[Any], url: str) -> None:
    """What tables need on a node before they can be distributed to it."""
    for node in (await read_places(conn)).workers:
        await nodes.prepare(conn, url, node)


async def bring_up_workers(
    conn: AsyncConnection[Any], url: str, files: list[File], report: Report
) -> None:
    """Whatever nodes and shards lack, and nothing where they are complete."""
    places = await read_places(conn)
    for one in await nodes.due(url, places, files):
        if one.group is None:
            await nodes.prepare(conn, url, one.node)
        await nodes.bring_up(url, one, files, report)


async def status(url: str, *, migrations: Path = MIGRATIONS, sql: Path = SQL) -> Status:
    """Compare files and database in a read-only session; changes nothing, waits for nobody."""
    files, repeatables = read_migrations(migrations), read_sql(sql)
    async with connect(url) as conn, conn.transaction():
        await conn.execute("set transaction read only")
        await conn.execute(nodes.LOOK)
        plan = make_plan(files, repeatables, await book.read(conn))
        behind: list[nodes.Due] = []
        unreachable: list[str] = []
        if "citus" in (plan.editions or ()) and not plan.migrations:
            places = await read_places(conn)
            files_here = applicable(repeatables, plan)
            behind = await nodes.due(url, places, files_here, unreachable)
    on_nodes = [(str(one), f"{len(one.files)} files") for one in behind]
    forget = [(file, "file is gone, forget it") for file in plan.forget]
    return Status(
        rows=plan.rows,
        steps=(*((step.file.name, step.reason) for step in plan.steps), *forget, *on_nodes),
        problems=plan.problems,
        notes=(*plan.notes, *unreachable),
        editions=tuple(sorted(plan.editions or ())),
    )


@asynccontextmanager
async def connect(url: str, **options: str) -> AsyncIterator[AsyncConnection[Any]]:
    """A session on the coordinator or the only server; failures become a CommandError."""
    try:
        conn = await AsyncConnection.connect(
            address(url),
            autocommit=True,
            prepare_threshold=None,
            application_name="headwater migrate",
            **options,  # type: ignore[arg-type]
        )
    except psycopg.OperationalError as exc:
        raise CommandError(f"can't connect to the database: {one_line(str(exc))}") from None
    except psycopg.ProgrammingError:
        raise CommandError("OWNER_DATABASE_URL is not a PostgreSQL address") from None
    async with alive(conn):
        try:
            yield conn
        except psycopg.Error as exc:
            raise CommandError(f"{exc.sqlstate or 'database'}: {one_line(str(exc))}") from exc


@asynccontextmanager
async def alone(url: str, wait: float, report: Report) -> AsyncIterator[AsyncConnection[Any]]:
    """A session that may change schema, shards and nodes, while nobody else of us does."""
    async with connect(url) as conn:
        await _refuse_pooler(conn)
    # shards and nodes are our business; elsewhere such settings mean nothing
    async with connect(url, options=nodes.OPTIONS) as conn:
        conn.add_notice_handler(lambda notice: _pass_on(notice, report))
        await conn.execute(NOTICE_DEATH)
        await _lock(conn, wait, report)
        yield conn


async def _refuse_pooler(conn: AsyncConnection[Any]) -> None:
    """The lock belongs to a session: behind a pooler it would be somebody else's."""
    cur = await conn.execute("select pg_catalog.pg_backend_pid()")
    row = await cur.fetchone()
    if row and row[0] != conn.info.backend_pid:
        raise CommandError(
            "OWNER_DATABASE_URL leads through a pooler: set it to the server itself for migrations"
        )


async def _lock(conn: AsyncConnection[Any], wait: float, report: Report) -> None:
    deadline = time.monotonic() + wait
    said = 0.0
    while True:
        cur = await conn.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY])
        row = await cur.fetchone()
        if row and row[0]:
            return
        cur = await conn.execute(
            """
            select pid from pg_catalog.pg_locks
            where locktype = 'advisory' and granted and objsubid = 1
              and database = (select oid from pg_catalog.pg_database
                              where datname = current_database())
              and (classid::bigint << 32) | objid::bigint = %s
            """,
            [LOCK_KEY],
        )
        holder = await cur.fetchone()
        who = f"another migrate or cluster command is running (pid {holder[0] if holder else '?'})"
        now = time.monotonic()
        if now >= deadline:
            raise CommandError(f"{who} and did not finish within {wait:g} s; try again later")
        if now - said >= 10:
            report(f"{who}, waiting up to {deadline - now:.0f} s")
            said = now
        await asyncio.sleep(0.2)


def _sound(plan: Plan) -> Plan:
    if plan.problems:
        raise CommandError("; ".join(plan.problems))
    return plan


def _pass_on(notice: psycopg.errors.Diagnostic, report: Report) -> None:
    """Show the server's warnings; the extension's banner, which spans lines, is none."""
    text = (notice.message_primary or "").strip()
    if notice.severity_nonlocalized == "WARNING" and "\n" not in text:
        report(f"warning: {text}")
