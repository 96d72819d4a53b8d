"""Brings the workers of a distributed server up to date: what every node has, and what every shard has.

Each worker keeps a ledger of its own, ops.applied, so a shard that came from elsewhere has none and is
built anew. A group's files are applied in one transaction: it is whole or untouched. Files that
are applied once per version come as in the coordinator's migrations; when any re-creatable file
of a group changed, all of them are applied again.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from app.errors import CommandError
from app.migrate.lease import ENDS, address, alive
from app.migrate.ledger import OWNER
from app.migrate.places import Group, Node, Places, localise, names_in, names_made
from app.migrate.source import File, checksum

Report = Callable[[str], None]
Check = Callable[[AsyncConnection[Any]], Awaitable[None]]

NODE = 0
"""Stands in ops.applied for the node itself."""
OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "citus.enable_ddl_propagation=off",
        "citus.enable_manual_changes_to_shards=on",
        "citus.override_table_visibility=off",
        "client_min_messages=warning",
        "lock_timeout=10s",
        # a command that was killed must not leave its statement running
        "client_connection_check_interval=2s",
        *ENDS,
    )
)
"""What a session needs that changes shards by hand; `reset all` keeps start-up options."""
LOOK: LiteralString = "set local citus.override_table_visibility = off"
"""What a transaction needs that only looks; no option, because a pooler takes none."""

_LEDGER = """
create table if not exists ops.applied (
    shard_id bigint not null,
    file text not null,
    version integer not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    constraint applied_pkey primary key (shard_id, file)
);
comment on table ops.applied is
    'Files that headwater migrate applied on this node: to the node (0) and to each group of shards.';
"""

_ROLES = """
select
    r.rolname, r.rolcanlogin, r.rolpassword,
    array(
        select g.rolname
        from pg_catalog.pg_auth_members as m
        join pg_catalog.pg_roles as g on g.oid = m.roleid
        where m.member = r.oid
    )
from pg_catalog.pg_authid as r
where r.rolname like 'headwater\\_%'
    or exists (
        select
        from pg_catalog.pg_auth_members as m
        join pg_catalog.pg_roles as g on g.oid = m.roleid and g.rolname = 'headwater_sql'
        where m.member = r.oid and not r.rolsuper
    )
order by r.oid
"""
SCHEMAS = """
select n.nspname
from pg_catalog.pg_namespace as n
join pg_catalog.pg_roles as r on r.oid = n.nspowner and r.rolname = 'headwater_owner'
"""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What a node or a group of shards still needs."""

    node: Node
    group: Group | None
    """None: the node itself."""
    files: tuple[File, ...]

    def __str__(self) -> str:
        return f"shards {self.group.shard_id} on {self.node}" if self.group else f"node {self.node}"

    @property
    def key(self) -> int:
        """Its number in ops.applied."""
        return self.group.shard_id if self.group else NODE


def address_of(url: str, node: Node) -> str:
    """The same login on another node."""
    return make_conninfo(url, host=node.host, port=node.port, hostaddr="")


@asynccontextmanager
async def on_node(url: str, node: Node) -> AsyncIterator[AsyncConnection[Any]]:
    """A session on a node that may change shards. Raises CommandError where it can't be had."""
    try:
        conn = await AsyncConnection.connect(
            address(address_of(url, node)),
            autocommit=True,
            prepare_threshold=None,
            application_name="headwater migrate",
            options=OPTIONS,
            connect_timeout=10,
        )
    except psycopg.OperationalError as exc:
        reason = " ".join(str(exc).split())
        raise CommandError(
            f"node {node} can't be reached, start it and run this again: {reason}"
        ) from None
    async with alive(conn):
        yield conn


async def prepare(conn: AsyncConnection[Any], url: str, node: Node) -> None:
    """Extensions, roles with their passwords, and schemas as the coordinator has them."""
    roles = await (await conn.execute(_ROLES)).fetchall()
    schemas = await (await conn.execute(SCHEMAS)).fetchall()
    async with on_node(url, node) as there:
        await there.execute("create extension if not exists timescaledb")
        known = {row[0] for row in await (await there.execute(_ROLES)).fetchall()}
        for name, can_login, password, groups in roles:
            if name not in known:
                await _say(there, "create role %I %s", name, "login" if can_login else "nologin")
            if password is not None:
                await _say(there, "alter role %I password %L", name, password)
            for group in groups:
                await _say(there, "grant %I to %I", group, name)
        for (schema,) in schemas:
            await _say(there, "create schema if not exists %I authorization %I", schema, OWNER)
        await _say(there, "grant create, temporary on database %I to %I", None, OWNER)
        await _say(there, "grant temporary on database %I to headwater_ingest", None)
        async with there.transaction():
            await there.execute(f"set local role {OWNER}")
            await there.execute(_LEDGER)


async def _say(conn: AsyncConnection[Any], form: str, first: str | None, *rest: str) -> None:
    """A statement made by the server's own quoting; None: the database's name."""
    cur = await conn.execute(
        "select format(%s, variadic array[coalesce(%s, current_database()::text)] || %s::text[])",
        [form, first, list(rest)],
    )
    row = await cur.fetchone()
    assert row is not None
    await conn.execute(row[0])


def shard_files(files: list[File]) -> list[File]:
    """Those for shards, in order."""
    return [file for file in files if "shards" in file.where]


async def due(
    url: str, places: Places, files: list[File], unreachable: list[str] | None = None
) -> list[Due]:
    """Compare the files with every worker's ledger; nodes first.

    Raises CommandError for a node that can't be reached, unless there is a list for such news.
    """
    found = []
    for node in places.workers:
        try:
            found += await _due_on(url, node, places, files)
        except CommandError as exc:
            if unreachable is None:
                raise
            unreachable.append(str(exc))
    return found


async def _due_on(url: str, node: Node, places: Places, files: list[File]) -> list[Due]:
    async with on_node(url, node) as there:
        cur = await there.execute("select to_regclass('ops.applied') is not null")
        row = await cur.fetchone()
        applied: dict[tuple[int, str], tuple[int, str]] = {}
        if row and row[0]:
            cur = await there.execute("select shard_id, file, version, checksum from ops.applied")
            applied = {(one[0], one[1]): (one[2], one[3]) for one in await cur.fetchall()}
    found = []
    for group in (None, *(group for group in places.groups if group.node == node)):
        wanted = shard_files(files) if group else [file for file in files if "nodes" in file.where]
        missing = _missing(wanted, group.shard_id if group else NODE, applied)
        if missing:
            found.append(Due(node=node, group=group, files=tuple(missing)))
    return found


def _missing(
    files: list[File], key: int, applied: dict[tuple[int, str], tuple[int, str]]
) -> list[File]:
    again = [file for file in files if not file.once]
    if all(applied.get((key, file.name), (0, ""))[1] == file.checksum for file in again):
        again = []
    return [
        file
        for file in files
        if (file.once and applied.get((key, file.name), (0, ""))[0] < file.version)
        or (not file.once and again)
    ]


async def bring_up(
    url: str, one: Due, files: list[File], report: Report, *, check: Check | None = None
) -> None:
    """Apply what is due, in one transaction; `check` has the last word before it is committed."""
    began = time.monotonic()
    names = names_in(one.group, names_made(shard_files(files))) if one.group else {}
    async with on_node(url, one.node) as there, there.transaction():
        for file in one.files:
            await there.execute("reset role")
            if not file.superuser:
                await there.execute(f"set local role {OWNER}")
            text = localise(file.text, names)
            for statement in msgspec.structs.replace(file, text=text).statements():
                try:
                    await there.execute(statement.text)
                except psycopg.Error as exc:
                    reason = " ".join(str(exc).split())
                    raise CommandError(
                        f"{file.name}:{statement.line} on {one}: {exc.sqlstate}: {reason}"
                    ) from exc
            await there.execute("reset role")
            await there.execute(
                "insert into ops.applied as a (shard_id, file, version, checksum)"
                " values (%s, %s, %s, %s) on conflict (shard_id, file) do update set"
                " version = excluded.version, checksum = excluded.checksum, applied_at = now()",
                [one.key, file.name, file.version, checksum(file.text)],
            )
        if check is not None:
            await check(there)
    report(f"{one}  {len(one.files)} files  {time.monotonic() - began:.2f} s")
