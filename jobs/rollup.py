"""Keeps the rollups up to date where the database does not do it by itself.

A refresh of a range that is being refreshed already is refused (55P03), on one server and on a shard.
The other one is a policy or a job that will end, so `run_step` waits for it, though not for ever.
"""

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable

from app.db.queries import queries
from app.errors import CommandError

SQL = queries("jobs")
log = structlog.get_logger()

PATIENCE_SECONDS = 120.0
"""A policy that takes in a big import is at it for long."""
FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
LOOK_SECONDS = 0.5


def _untold(_: float) -> None:
    """Nobody watches."""


async def refresh_rollups(connection: AsyncConnection, *, is_scheduled: bool = True) -> None:
    """Run the edition's refresh steps, each outside a transaction.

    Not scheduled: also those that the database's own policies run (only the owner may). A step that
    fails does not keep the others from running; what the first one said is raised at the end.
    Raises psycopg.Error, CommandError where somebody else refreshes and does not end.
    """
    cursor = await connection.execute(SQL["rollup_refresh_steps"], {"is_scheduled": is_scheduled})
    failure: psycopg.Error | None = None
    for (step,) in await cursor.fetchall():
        try:
            # whoever did not end while the first step waited will not for the others
            await run_step(connection, step, patience=0.0 if failure else PATIENCE_SECONDS)
        except psycopg.Error as exc:
            if connection.closed:
                raise
            failure = failure or exc
    if isinstance(failure, LockNotAvailable):
        raise CommandError(
            f"{failure.diag.message_primary}, which has not ended in {PATIENCE_SECONDS:g} s;"
            " run `headwater jobs --once refresh_rollups` later"
        ) from failure
    if failure is not None:
        raise failure


async def bring_up_to_date(
    connection: AsyncConnection,
    *,
    first: datetime | None = None,
    last: datetime | None = None,
    tell: Callable[[float], None] = _untold,
) -> None:
    """Have the rollups from first to last refreshed and wait for it, as whoever runs the jobs.

    What the database's own policies refresh, they are woken for; `tell` hears the share that is left.
    Raises psycopg.Error, CommandError where nothing gets on.
    """
    await refresh_rollups(connection)
    span = {"first": first, "last": last or datetime.now(UTC)}
    least, deadline = math.inf, 0.0
    while True:
        cursor = await connection.execute(SQL["rollups_hasten"], span)
        row = await cursor.fetchone()
        assert row is not None
        tell(left := float(row[0]))
        if left == 0:
            return
        if left < least:
            least, deadline = left, time.monotonic() + PATIENCE_SECONDS
        elif time.monotonic() > deadline:
            raise CommandError(
                f"{left:.1%} of the time is not in the rollups, and for {PATIENCE_SECONDS:g} s that has"
                " not become less: others send late readings, or the database's policies are switched"
                " off or busy (timescaledb_information.jobs); questions are answered from readings"
                " meanwhile"
            )
        await asyncio.sleep(LOOK_SECONDS)


async def run_step(
    connection: AsyncConnection, step: str, *, patience: float = PATIENCE_SECONDS
) -> None:
    """Run a statement that refreshes a rollup, after whoever is at it. Raises psycopg.Error."""
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            await connection.execute(step.encode())
            return
        except (LockNotAvailable, DeadlockDetected) as exc:
            if time.monotonic() + pause > deadline:
                raise
            if pause == FIRST_PAUSE_SECONDS:
                log.info("rollup_busy", error=exc.diag.message_primary)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE_SECONDS)
