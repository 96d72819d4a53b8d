"""What is to be done: files compared with the ledger, nothing touched.

Invariants: history is never edited (a file applied once keeps its text, its place and its
number); a database built for the Apache or the Community edition stays with it; re-creatable
files run again when their text, or that of a file they require, changed, and after every new
migration, since a migration may have dropped what they made.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from app.migrate.ledger import Applied, Ledger
from app.migrate.source import File, checksum, dependents

BASES = ("apache", "community")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `headwater migrate --status`."""

    file: str
    state: str
    """applied, pending, changed, unfinished, missing, gone, on shards or not offered"""
    edition: str = "any"
    applied_at: datetime | None = None
    note: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A file to apply, and why."""

    file: File
    reason: str
    done: int = 0
    """Statements of a file without a transaction that an earlier run has applied."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in order: single migrations, the common transaction, single files after it."""

    migrations: tuple[Step, ...] = ()
    common: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    forget: tuple[str, ...] = ()
    """Rows of ops.repeatable whose file is gone."""
    rows: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()
    editions: frozenset[str] | None = None
    """Editions whose files apply here; None while TimescaleDB is not in the database."""
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step in the order it is taken."""
        return self.migrations + self.common + self.after

    @property
    def is_current(self) -> bool:
        """Nothing to do and nothing wrong."""
        return not (self.steps or self.forget or self.problems)


def make_plan(migrations: list[File], sql: list[File], ledger: Ledger) -> Plan:
    """Compare the files with the ledger."""
    editions, notes = _editions(ledger)
    sheet = _Sheet(ledger)
    for file in migrations:
        if _applies(file, editions):
            sheet.add_once(file)
        else:
            sheet.rows.append(Row(file=file.name, edition=file.edition, state="not offered"))
    sheet.add_missing(migrations)
    steps = sheet.take_steps()
    applicable = []
    for file in sql:
        if not _applies(file, editions):
            sheet.rows.append(Row(file=file.name, edition=file.edition, state="not offered"))
        elif "citus" in (editions or ()) and file.where == {"shards"}:
            sheet.rows.append(Row(file=file.name, edition=file.edition, state="on shards"))
        else:
            applicable.append(file)
    if editions is None and len(applicable) < len(sql):
        notes = ("which edition files apply is known once TimescaleDB is in the database",)
    highest = max((file.number or 0 for file in migrations), default=0)
    sheet.add_sql(applicable, highest)
    in_sql = sheet.take_steps()
    names = {file.name for file in sql}
    gone = [row for row in ledger.repeatables if row.file not in names]
    sheet.rows += [
        Row(file=row.file, edition=row.edition, state="gone", applied_at=row.applied_at)
        for row in gone
    ]
    return Plan(
        migrations=tuple(steps),
        common=tuple(step for step in in_sql if step.file.transactional),
        after=tuple(step for step in in_sql if not step.file.transactional),
        forget=tuple(row.file for row in gone),
        rows=tuple(sheet.rows),
        problems=tuple(sheet.problems),
        editions=editions,
        notes=notes,
    )


def _applies(file: File, editions: frozenset[str] | None) -> bool:
    return file.edition == "any" or file.edition in (editions or ())


def is_distributed(ledger: Ledger) -> bool:
    """Whether the database is, or a fresh one will be, spread over the nodes of a Citus cluster."""
    if "citus" not in (ledger.offered or ()):
        return False
    return not ledger.migrations or any(row.edition == "citus" for row in ledger.migrations)


def built_for(ledger: Ledger) -> str | None:
    """Apache or community, by the first edition file that was applied; None before that."""
    for rows in (ledger.migrations, ledger.repeatables):
        marks = [
            (row.applied_at, row.edition)
            for row in rows
            if row.edition in BASES and row.applied_at is not None
        ]
        if marks:
            return min(marks)[1]
    return None


def _editions(ledger: Ledger) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    if "citus" in (ledger.offered or ()) and not is_distributed(ledger):
        note = "built on one server before Citus was there: stays on one server"
        editions, notes = _editions(
            msgspec.structs.replace(ledger, offered=(ledger.offered or frozenset()) - {"citus"})
        )
        return editions, (*notes, note)
    built = built_for(ledger)
    if ledger.offered is None or built is None or built in ledger.offered:
        return ledger.offered, ()
    now = next(iter(ledger.offered & set(BASES)))
    loss = (
        "which works on; a database migrated afresh would get the community objects"
        if built == "apache"
        else "whose continuous aggregates no longer refresh; restore timescaledb.license"
    )
    note = f"built for {built}, the server now offers {now}: stays with {built}, {loss}"
    return (ledger.offered - set(BASES)) | {built}, (note,)


class _Sheet:
    """Collects rows, steps and problems while the files are gone through."""

    def __init__(self, ledger: Ledger) -> None:
        self.applied: dict[str, list[Applied]] = {}
        for row in ledger.migrations:
            self.applied.setdefault(row.file, []).append(row)
        self.repeated = {row.file: row for row in ledger.repeatables}
        self.highest = max((row.number or 0 for row in ledger.migrations), default=0)
        self.rows: list[Row] = []
        self.problems: list[str] = []
        self._steps: list[Step] = []

    def take_steps(self) -> list[Step]:
        steps, self._steps = self._steps, []
        return steps

    def add_once(self, file: File) -> None:
        """A migration, or an edition file with a version."""
        rows = self.applied.get(file.name, [])
        latest = max(rows, key=lambda row: row.version, default=None)
        if latest is None or latest.version < file.version:
            if file.number is not None and file.number < self.highest:
                self._wrong(
                    file,
                    f"{file.name}: number {file.number:04d} comes before {self.highest:04d}, "
                    f"which is applied; rename it to {self.highest + 1:04d} or later",
                )
                return
            reason = "new" if latest is None else f"version {file.version} after {latest.version}"
            self._pend(file, Step(file=file, reason=reason))
        elif latest.version > file.version:
            self._wrong(
                file,
                f"{file.name}: version {file.version} is older than {latest.version}, which is "
                "applied; deploy newer code",
                latest.applied_at,
            )
        elif latest.applied_at is None:
            self._resume(file, latest)
        elif latest.checksum != file.checksum:
            remedy = (
                "restore the file and put the change into a new migration"
                if file.number is not None
                else "restore the file, or raise its '-- version:'"
            )
            self._wrong(
                file,
                f"{file.name}: edited after it was applied (applied {latest.checksum[:12]}, "
                f"file {file.checksum[:12]}); {remedy}",
                latest.applied_at,
            )
        else:
            self._row(file, "applied", latest.applied_at)

    def add_missing(self, files: Iterable[File]) -> None:
        """Migrations that the database has and the checkout lacks."""
        names = {file.name for file in files}
        for rows in self.applied.values():
            row = rows[0]
            if row.number is not None and row.file not in names:
                self.problems.append(
                    f"{row.file}: applied to this database, but the file is missing; "
                    "restore it, or deploy the code that has it"
                )
                self.rows.append(Row(file=row.file, state="missing", applied_at=row.applied_at))

    def add_sql(self, files: list[File], highest: int) -> None:
        """Files under sql/ that apply here, in order."""
        reasons: dict[str, str] = {}
        for file in files:
            row = self.repeated.get(file.name)
            if file.once:
                continue
            if row is None:
                reasons[file.name] = "new"
            elif row.checksum != file.checksum:
                reasons[file.name] = "changed"
            elif row.after_number != highest:
                reasons[file.name] = "after new migrations"
        anew = {file.name for file in files if file.once and self._latest(file) < file.version}
        again = dependents(files, set(reasons) | anew)
        for file in files:
            row = self.repeated.get(file.name)
            if file.once:
                self.add_once(file)
            elif file.name in again:
                reason = reasons.get(file.name, "requires a changed file")
                state = "changed" if reason == "changed" else "pending"
                self._row(file, state, row.applied_at if row else None, reason)
                self._steps.append(Step(file=file, reason=reason))
            else:
                self._row(file, "applied", row.applied_at if row else None)

    def _latest(self, file: File) -> int:
        return max((row.version for row in self.applied.get(file.name, [])), default=0)

    def _resume(self, file: File, row: Applied) -> None:
        done = row.statements_done
        texts = [statement.text for statement in file.statements()]
        if file.transactional or checksum_of(texts[:done]) != row.checksum:
            self._wrong(
                file,
                f"{file.name}: stopped after statement {done} of {row.statements_total}, and the "
                "statements already done were edited since; restore them",
            )
            return
        reason = f"go on after statement {done} of {len(texts)}"
        self._row(file, "unfinished", None, reason)
        self._steps.append(Step(file=file, reason=reason, done=done))

    def _pend(self, file: File, step: Step) -> None:
        self._row(file, "pending", None, step.reason)
        self._steps.append(step)

    def _wrong(self, file: File, problem: str, applied_at: datetime | None = None) -> None:
        self.problems.append(problem)
        self._row(file, "changed" if applied_at else "refused", applied_at)

    def _row(self, file: File, state: str, applied_at: datetime | None, note: str = "") -> None:
        self.rows.append(
            Row(
                file=file.name,
                edition=file.edition,
                state=state,
                applied_at=applied_at,
                note=note,
            )
        )


def checksum_of(statements: list[str]) -> str:
    """What the ledger keeps of a file without a transaction while it is under way."""
    return checksum("\x00".join(statements))
