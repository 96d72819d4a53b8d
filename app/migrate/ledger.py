"""The ledger: ops.migration and ops.repeatable, what was applied to this database and when.

The migrator makes both itself, before the first migration, and hands them to headwater_owner once
that role exists. A row is written in the transaction that applied its file; for a file without a
transaction after each statement, so that a killed run goes on where it stopped.
"""

from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

OWNER = "headwater_owner"

_SCHEMA = """
create schema if not exists ops;

create table if not exists ops.migration (
    file text not null,
    version integer not null default 1,
    number integer,
    edition text not null default 'any',
    checksum text not null,
    statements_total integer not null,
    statements_done integer not null,
    started_at timestamptz not null default now(),
    applied_at timestamptz,
    seconds double precision not null default 0,
    applied_by text not null default session_user,
    constraint migration_pkey primary key (file, version),
    constraint migration_number_key unique (number),
    constraint migration_edition_check
        check (edition in ('any', 'apache', 'community', 'citus')),
    constraint migration_statements_check
        check (statements_done between 0 and statements_total),
    constraint migration_applied_check
        check (applied_at is null or statements_done = statements_total)
);

create table if not exists ops.repeatable (
    file text not null,
    edition text not null default 'any',
    checksum text not null,
    after_number integer not null,
    applied_at timestamptz not null default now(),
    seconds double precision not null,
    applied_by text not null default session_user,
    constraint repeatable_pkey primary key (file),
    constraint repeatable_edition_check
        check (edition in ('any', 'apache', 'community', 'citus'))
);

comment on schema ops is
    'How the system itself is doing: migrations, jobs, health.';
comment on table ops.migration is
    'Files applied once, in order; written by headwater migrate only. Immutable history.';
comment on column ops.migration.file is
    'Path in the repository: migrations/NNNN_what.sql or sql/edition/<edition>/<name>.sql.';
comment on column ops.migration.version is
    'Version an edition file declares; always 1 for a migration.';
comment on column ops.migration.number is
    'Place of a migration in the order; null for an edition file.';
comment on column ops.migration.edition is
    'Server edition the file is for: any, or apache, community or citus. The first of apache and '
    'community found here is what the database was built for, and stays so.';
comment on column ops.migration.checksum is
    'SHA-256 of the file; while unfinished, of the statements done.';
comment on column ops.migration.statements_total is
    'Statements in the file.';
comment on column ops.migration.statements_done is
    'Statements applied; less than the total only while a file without a transaction is under way.';
comment on column ops.migration.started_at is
    'When the file was first started.';
comment on column ops.migration.applied_at is
    'When the last statement was done; null while unfinished.';
comment on column ops.migration.seconds is
    'Time spent applying the file, in seconds.';
comment on column ops.migration.applied_by is
    'Role that ran the migrator.';
comment on table ops.repeatable is
    'Re-creatable files under sql/ as last applied; written by headwater migrate only.';
comment on column ops.repeatable.file is
    'Path in the repository: sql/<topic>/<name>.sql.';
comment on column ops.repeatable.edition is
    'Server edition the file is for: any, or apache, community or citus.';
comment on column ops.repeatable.checksum is
    'SHA-256 of the file as applied.';
comment on column ops.repeatable.after_number is
    'Highest migration in place at the time; a later migration has all of sql/ applied again.';
comment on column ops.repeatable.applied_at is
    'When the file was last applied.';
comment on column ops.repeatable.seconds is
    'Time it took, in seconds.';
comment on column ops.repeatable.applied_by is
    'Role that ran the migrator.';
"""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ops.migration."""

    file: str
    version: int
    number: int | None
    edition: str
    checksum: str
    statements_total: int
    statements_done: int
    applied_at: datetime | None


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ops.repeatable."""

    file: str
    edition: str
    checksum: str
    after_number: int
    applied_at: datetime


class Ledger(msgspec.Struct, frozen=True):
    """Everything the database says about itself."""

    migrations: tuple[Applied, ...] = ()
    repeatables: tuple[Repeated, ...] = ()
    offered: frozenset[str] | None = None
    """Editions the server offers here; None while TimescaleDB is not in the database."""


async def exists(conn: AsyncConnection[Any]) -> bool:
    """Whether the migrator has been here before."""
    cur = await conn.execute("select to_regclass('ops.repeatable') is not null")
    row = await cur.fetchone()
    return bool(row and row[0])


async def prepare(conn: AsyncConnection[Any]) -> None:
    """Make the ledger where it is missing."""
    if not await exists(conn):
        async with conn.transaction():
            await conn.execute(_SCHEMA)


async def hand_over(conn: AsyncConnection[Any]) -> None:
    """Give schema and tables to the owner role as soon as there is one."""
    cur = await conn.execute(
        """
        select format('alter %%s %%s owner to %%I', o.kind, o.name, r.rolname)
        from pg_catalog.pg_roles r
        cross join (
            select 'schema', 'ops', nspowner
            from pg_catalog.pg_namespace where nspname = 'ops'
            union all
            select 'table', 'ops.' || relname, relowner
            from pg_catalog.pg_class
            where oid in (to_regclass('ops.migration'), to_regclass('ops.repeatable'))
        ) as o (kind, name, owner)
        where r.rolname = %s and o.owner <> r.oid and pg_has_role(r.oid, 'set')
        """,
        [OWNER],
    )
    statements = [row[0] for row in await cur.fetchall()]
    async with conn.transaction():
        for statement in statements:
            await conn.execute(statement)


async def read(conn: AsyncConnection[Any]) -> Ledger:
    """What is applied and what the server offers; empty for a database never migrated."""
    offered = await _offered(conn)
    if not await exists(conn):
        return Ledger(offered=offered)
    async with conn.cursor(row_factory=class_row(Applied)) as cur:
        await cur.execute(
            "select file, version, number, edition, checksum, statements_total, statements_done,"
            " applied_at from ops.migration order by number, file, version"
        )
        migrations = tuple(await cur.fetchall())
    async with conn.cursor(row_factory=class_row(Repeated)) as cur:
        await cur.execute(
            "select file, edition, checksum, after_number, applied_at"
            " from ops.repeatable order by file"
        )
        return Ledger(migrations, tuple(await cur.fetchall()), offered)


async def _offered(conn: AsyncConnection[Any]) -> frozenset[str] | None:
    """The library sets its licence once the extension is in the database and a query ran."""
    cur = await conn.execute(
        "select extname from pg_catalog.pg_extension where extname in ('timescaledb', 'citus')"
    )
    extensions = {row[0] for row in await cur.fetchall()}
    if "timescaledb" not in extensions:  # the first migration makes it
        return frozenset(extensions) or None
    cur = await conn.execute("select current_setting('timescaledb.license', true)")
    row = await cur.fetchone()
    edition = "community" if row and row[0] == "timescale" else "apache"
    return frozenset({edition} | (extensions & {"citus"}))


async def record_progress(
    conn: AsyncConnection[Any],
    *,
    file: str,
    version: int,
    number: int | None,
    edition: str,
    checksum: str,
    total: int,
    done: int,
    seconds: float,
    finished: bool,
) -> None:
    """Note how far a migration has come, and whether that is all."""
    await conn.execute(
        """
        insert into ops.migration as m (file, version, number, edition, checksum,
            statements_total, statements_done, seconds, applied_at)
        values (%(file)s, %(version)s, %(number)s, %(edition)s, %(checksum)s,
            %(total)s, %(done)s, %(seconds)s,
            case when %(finished)s then clock_timestamp() end)
        on conflict on constraint migration_pkey do update set
            checksum = excluded.checksum,
            statements_total = excluded.statements_total,
            statements_done = excluded.statements_done,
            seconds = m.seconds + excluded.seconds,
            applied_at = excluded.applied_at
        """,
        {
            "file": file,
            "version": version,
            "number": number,
            "edition": edition,
            "checksum": checksum,
            "total": total,
            "done": done,
            "seconds": seconds,
            "finished": finished,
        },
    )


async def record_repeatable(
    conn: AsyncConnection[Any],
    *,
    file: str,
    edition: str,
    checksum: str,
    after_number: int,
    seconds: float,
) -> None:
    """Note a re-creatable file as applied now."""
    await conn.execute(
        """
        insert into ops.repeatable (file, edition, checksum, after_number, seconds)
        values (%s, %s, %s, %s, %s)
        on conflict on constraint repeatable_pkey do update set
            edition = excluded.edition,
            checksum = excluded.checksum,
            after_number = excluded.after_number,
            applied_at = clock_timestamp(),
            seconds = excluded.seconds,
            applied_by = session_user
        """,
        [file, edition, checksum, after_number, seconds],
    )


async def forget_repeatable(conn: AsyncConnection[Any], file: str) -> None:
    """Drop the row of a file that is no longer in the repository."""
    await conn.execute("delete from ops.repeatable where file = %s", [file])
