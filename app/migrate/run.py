"""Applies single steps of a plan on a connection that holds the migrator's lock.

Each migration and its ledger row are one transaction; all re-creatable files are one more. Files
without a transaction run a statement at a time and their progress is noted after each; a statement
that was cut short is run again. A lock that can't be had within lock_timeout is given up, so that
readers behind it don't pile up, and tried again later. Any other failure is a CommandError with
file, line and SQLSTATE.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg import sql as pgsql

from app.errors import CommandError
from app.migrate import ledger as book
from app.migrate.ledger import OWNER
from app.migrate.places import localise
from app.migrate.plan import Plan, Step, checksum_of
from app.migrate.source import File
from app.migrate.statements import Statement

LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 600_000
RETRY_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before another try when a lock could not be had; after the last the run fails."""
NOTICE_DEATH: LiteralString = "set client_connection_check_interval = '2s'"
"""A migrator that was killed must not leave its statement running for hours."""

Report = Callable[[str], None]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A file that this run applied."""

    file: str
    reason: str
    seconds: float


class Run:
    """One run of the migrator on a locked connection."""

    def __init__(
        self, conn: AsyncConnection[Any], report: Report, retry_pauses: tuple[float, ...]
    ) -> None:
        self.conn = conn
        self.report = report
        self.retry_pauses = retry_pauses
        self.done: list[Done] = []
        self.placements: Mapping[str, str] = {}
        """Reference tables of a distributed server, by the names of their placements."""
        self.is_spread = False
        """Whether tables are distributed by now: what changes them is for all nodes."""

    async def once(self, step: Step) -> None:
        """Apply a migration, or an edition file that refuses the common transaction."""
        started = time.monotonic()
        if step.file.transactional:
            await self._patiently(step.file.name, lambda: self._in_one_transaction(step.file))
        else:
            await self._piecemeal(step)
        self._finished(step, time.monotonic() - started)

    async def together(self, plan: Plan, highest: int) -> None:
        """Apply all of sql/ that needs it in one transaction, so that no half of it is seen."""
        if not plan.common and not plan.forget:
            return
        took: dict[str, float] = {}

        async def attempt() -> None:
            async with self.conn.transaction():
                for step in plan.common:
                    started = time.monotonic()
                    await self._statements(step.file)
                    took[step.file.name] = time.monotonic() - started
                    await self._record(step.file, highest, took[step.file.name])
                for name in plan.forget:
                    await book.forget_repeatable(self.conn, name)

        await self._patiently("sql/", attempt)
        for step in plan.common:
            self._finished(step, took[step.file.name])
        for name in plan.forget:
            self.report(f"{name}  forgotten: the file is gone, a migration drops what it made")

    async def _in_one_transaction(self, file: File) -> None:
        started = time.monotonic()
        async with self.conn.transaction():
            if self.is_spread and file.edition == "any":
                await self.conn.execute("set local citus.enable_ddl_propagation = on")
            await self._statements(file)
            await self._record(file, 0, time.monotonic() - started)

    async def _statements(self, file: File) -> None:
        """Run a file inside the open transaction and leave no setting behind."""
        await self._settings(file, "set local")
        if "placements" in file.where:
            file = msgspec.structs.replace(file, text=localise(file.text, self.placements))
        for statement in file.statements():
            await self._execute(file, statement)
        await self._reset()

    async def _record(self, file: File, highest: int, seconds: float) -> None:
        if file.once:
            total = len(file.statements())
            await self._note(file, file.checksum, total, seconds, finished=True)
        else:
            await book.record_repeatable(
                self.conn,
                file=file.name,
                edition=file.edition,
                checksum=file.checksum,
                after_number=highest,
                seconds=seconds,
            )

    async def _note(
        self, file: File, checksum: str, done: int, seconds: float, *, finished: bool
    ) -> None:
        await book.record_progress(
            self.conn,
            file=file.name,
            version=file.version,
            number=file.number,
            edition=file.edition,
            checksum=checksum,
            total=len(file.statements()),
            done=done,
            seconds=seconds,
            finished=finished,
        )

    async def _piecemeal(self, step: Step) -> None:
        """Statement by statement, each on its own; the ledger knows how far we are."""
        file = step.file
        statements = file.statements()
        texts = [statement.text for statement in statements]
        total = len(texts)
        await self._note(file, checksum_of(texts[: step.done]), step.done, 0, finished=False)
        for place, statement in enumerate(statements[step.done :], step.done + 1):
            started = time.monotonic()

            async def attempt(statement: Statement = statement) -> None:
                await self._drop_invalid_indexes(statement)
                await self._settings(file, "set")
                try:
                    await self._execute(file, statement)
                finally:
                    if not self.conn.broken:
                        await self._reset()

            await self._patiently(file.name, attempt)
            took = time.monotonic() - started
            await self._note(file, checksum_of(texts[:place]), place, took, finished=False)
            if total > 1:
                self.report(f"{file.name}  statement {place} of {total}  {took:.2f} s")
        await self._note(file, file.checksum, total, 0, finished=True)

    async def _drop_invalid_indexes(self, statement: Statement) -> None:
        """Clear what a create index concurrently leaves when it is cut short.

        `if not exists` would take the invalid index for the finished one.
        """
        if not {"create", "index", "concurrently"} <= set(statement.words[:4]):
            return
        cur = await self.conn.execute(
            """
            select format('%%I.%%I', n.nspname, c.relname)
            from pg_catalog.pg_index i
            join pg_catalog.pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where not i.indisvalid and c.relname = any(%s)
            """,
            [list(statement.words)],
        )
        for (name,) in await cur.fetchall():
            self.report(f"dropping {name}, left invalid by an earlier run")
            await self.conn.execute(f"drop index concurrently if exists {name}")

    async def _settings(self, file: File, how: LiteralString) -> None:
        for name, given, default in (
            ("lock_timeout", file.lock_timeout_ms, LOCK_TIMEOUT_MS),
            ("statement_timeout", file.statement_timeout_ms, STATEMENT_TIMEOUT_MS),
        ):
            value = default if given is None else given
            await self.conn.execute(f"{how} {name} = {value}")
        if file.superuser:
            return
        try:
            owner = pgsql.Identifier(OWNER)
            await self.conn.execute(pgsql.SQL(how + " role {}").format(owner))
        except psycopg.Error as exc:
            raise CommandError(
                f"{file.name}: can't act as {OWNER} ({one_line(str(exc))}); the first migration, "
                "with '-- role: superuser', creates the role"
            ) from None

    async def _reset(self) -> None:
        """Back to the connecting role and its settings, whatever the file has set."""
        await self.conn.execute("reset role")
        await self.conn.execute("reset all")
        await self.conn.execute(NOTICE_DEATH)

    async def _execute(self, file: File, statement: Statement) -> None:
        try:
            await self.conn.execute(statement.text)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as exc:
            raise BusyError(_located(file, statement, exc)) from exc
        except psycopg.Error as exc:
            raise CommandError(_located(file, statement, exc)) from exc

    async def _patiently(self, name: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try again when a lock was not to be had; the pauses let the others through."""
        for pause in (*self.retry_pauses, None):
            try:
                await attempt()
            except BusyError as exc:
                if pause is None:
                    tries = len(self.retry_pauses) + 1
                    raise CommandError(
                        f"{exc}; given up after {tries} tries, run it again when less is going on"
                    ) from exc
                self.report(f"{exc}; trying again in {pause:g} s")
                await asyncio.sleep(pause)
            except psycopg.Error as exc:
                raise CommandError(f"{name}: {exc.sqlstate}: {one_line(str(exc))}") from exc
            else:
                return

    def _finished(self, step: Step, seconds: float) -> None:
        self.done.append(Done(file=step.file.name, reason=step.reason, seconds=seconds))
        self.report(f"{step.file.name}  {step.reason}  {seconds:.2f} s")


class BusyError(Exception):
    """A lock could not be had in time; nothing was changed."""


def _located(file: File, statement: Statement, exc: psycopg.Error) -> str:
    line = statement.line
    position = exc.diag.statement_position
    if position and position.isdigit():
        line += statement.text.count("\n", 0, int(position) - 1)
    text = exc.diag.message_primary or str(exc)
    for extra in (exc.diag.message_detail, exc.diag.message_hint):
        text += f" ({extra})" if extra else ""
    return f"{file.name}:{line}: {exc.sqlstate or 'error'}: {one_line(text)}"


def one_line(text: str) -> str:
    return " ".join(text.split())
