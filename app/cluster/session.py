"""A command's hold of the cluster: connected to the coordinator, alone, with the files of this release.

The lock is the migrator's, so that nobody changes shards while another moves them. It is a lease
(app/migrate/lease.py): a command that stands still loses it, and another goes on. What the first
still does when it wakes can't meet that: it takes the lock of each node, too, on which it works, asks
after that whether it still holds the cluster, and does everything in the session that has the lock.
A database that is not distributed, or behind the files, is refused with the remedy.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.archive.book import LOCK as ARCHIVER
from app.db.queries import queries
from app.errors import CommandError
from app.migrate import ledger as book
from app.migrate.engine import LOCK_KEY, alone, applicable, connect
from app.migrate.lease import LEASE_SECONDS
from app.migrate.nodes import OPTIONS, Report, on_node
from app.migrate.places import Node, Places, read_places
from app.migrate.plan import make_plan
from app.migrate.source import File, read_migrations, read_sql
from app.paths import MIGRATIONS, SQL

LOCK_WAIT_SECONDS = 300.0
NODE_WAIT_SECONDS = 6 * LEASE_SECONDS
LOST = (
    f"the hold of the cluster was lost: this command stood still for more than {LEASE_SECONDS} s, or the"
    " coordinator was away; `headwater cluster rebalance` goes on from here: {}"
)
STATEMENTS = queries("cluster")


class BehindError(CommandError):
    """The database is not what the files say."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the coordinator knows it."""

    number: int
    host: str
    port: int
    takes_shards: bool
    is_aside: bool
    """Not told yet of everything that changed while it was away."""

    @property
    def node(self) -> Node:
        """Its address."""
        return Node(self.number, self.host, self.port)


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What a command works with."""

    url: str
    conn: AsyncConnection[Any]
    """Of the coordinator, every statement a transaction of its own."""
    files: list[File]
    """All of sql/ that this database's editions have."""
    report: Report

    async def places(self) -> Places:
        """Where everything lies now."""
        return await read_places(self.conn)

    async def members(self) -> list[Member]:
        """Coordinator and workers, in the order in which they came."""
        async with self.conn.cursor(row_factory=class_row(Member)) as cur:
            await cur.execute(STATEMENTS["nodes_all"])
            return await cur.fetchall()

    @asynccontextmanager
    async def on(self, node: Node) -> AsyncIterator[AsyncConnection[Any]]:
        """A session that may change a node, the only one at a time. Raises CommandError."""
        async with on_node(self.url, node) as there:
            try:
                await there.execute(f"set lock_timeout = '{NODE_WAIT_SECONDS}s'")
                await there.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
            except psycopg.errors.LockNotAvailable:
                raise CommandError(
                    f"another command is still at work on {node}; run this again later"
                ) from None
            await there.execute("reset lock_timeout")
            await self.conn.execute("select")  # fails where the lease has ended
            yield there

    async def run(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        """A named statement on the coordinator."""
        return await ask(self.conn, name, **values)


async def ask(conn: AsyncConnection[Any], name: str, **values: object) -> list[tuple[Any, ...]]:
    """A named statement of sql/queries/cluster.sql."""
    cur = await conn.execute(STATEMENTS[name], values or None)
    return await cur.fetchall() if cur.description else []


@asynccontextmanager
async def hold(
    url: str,
    report: Report,
    *,
    is_reader: bool = False,
    moves: bool = False,
    lock_wait: float = LOCK_WAIT_SECONDS,
) -> AsyncIterator[Cluster]:
    """The cluster, held until the end; a reader holds nothing and keeps nobody waiting.

    `moves`: groups are going to move, so the archive must not be at work.
    """
    migrations, sql = read_migrations(MIGRATIONS), read_sql(SQL)
    session = connect(url, options=OPTIONS) if is_reader else alone(url, lock_wait, report)
    async with session as conn:
        plan = make_plan(migrations, sql, await book.read(conn))
        if "citus" not in (plan.editions or ()):
            raise CommandError(
                "this database is on one server: spread it with `headwater dev up --workers 2`,"
                " or as docs/operating.md says"
            )
        if not plan.is_current:
            raise BehindError("the database is not up to date: run `headwater migrate`")
        if moves:
            await _keep_archiver_out(conn, lock_wait, report)
        try:
            yield Cluster(url=url, conn=conn, files=applicable(sql, plan), report=report)
        except (CommandError, psycopg.Error) as exc:
            if conn.closed and not is_reader:
                raise CommandError(LOST.format(" ".join(str(exc).split()))) from exc
            raise


async def _keep_archiver_out(conn: AsyncConnection[Any], wait: float, report: Report) -> None:
    deadline = time.monotonic() + wait
    has_said = False
    while True:
        cur = await conn.execute(queries("jobs")["job_lock"], {"job": ARCHIVER})
        if await cur.fetchone() == (True,):
            return
        if time.monotonic() >= deadline:
            raise CommandError(
                f"the archive is at work and did not finish within {wait:g} s; try again later"
            )
        if not has_said:
            report(f"the archive is at work, waiting up to {wait:.0f} s")
            has_said = True
        await asyncio.sleep(0.5)
