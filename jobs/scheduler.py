"""Runs the jobs at their intervals, in one process or many.

A job takes a session advisory lock for its run: whoever does not get it skips the round, so any number
of processes may run. A job that fails is logged and tried again at its next turn; each run has a
connection of its own, so a lost server costs one round.
"""

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from psycopg import AsyncConnection
from psycopg.errors import Diagnostic
from psycopg.types.json import Jsonb

from app.db.pool import connect_direct
from app.db.queries import queries
from app.errors import CommandError
from app.settings import Settings
from jobs.alert import sweep_alerts
from jobs.archive import archive_due
from jobs.move import settle_moves
from jobs.rollup import bring_up_to_date, refresh_rollups
from jobs.tidy import tidy

SQL = queries("jobs")
log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """What runs how often."""

    name: str
    seconds: int
    run: Callable[[AsyncConnection], Awaitable[None]]
    now: Callable[[AsyncConnection], Awaitable[None]] | None = None
    """What a person who asks for it wants, where that is more."""


JOBS = (
    Job("refresh_rollups", 30, refresh_rollups, now=bring_up_to_date),
    Job("sweep_alerts", 60, sweep_alerts),
    Job("tidy", 60, tidy),
    Job("settle_moves", 15, settle_moves),
    Job("archive", 3600, archive_due),
)
HEARTBEAT_SECONDS = 5


async def run_once(settings: Settings, job: Job) -> bool:
    """Run a job unless another process does; whether it ran. Raises what the job raises."""
    connection = await connect_direct(
        settings.direct_database_url,
        application=f"headwater-job-{job.name}",
        variable="DIRECT_DATABASE_URL",
    )
    async with connection:
        connection.add_notice_handler(functools.partial(_pass_on, job.name))
        cursor = await connection.execute(SQL["job_lock"], {"job": job.name})
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return False
        try:
            await job.run(connection)
        finally:
            if not connection.closed:
                await connection.execute(SQL["job_unlock"], {"job": job.name})
    return True


def _pass_on(job: str, notice: Diagnostic) -> None:
    """A warning is what the database could not do this time."""
    if notice.severity_nonlocalized == "WARNING":
        log.warning(
            "job_incomplete", job=job, error=notice.message_primary, detail=notice.message_detail
        )


async def beat(settings: Settings) -> None:
    """Leave a sign of life for /api/status."""
    connection = await connect_direct(
        settings.direct_database_url, application="headwater-jobs", variable="DIRECT_DATABASE_URL"
    )
    async with connection:
        detail = Jsonb({"jobs": [job.name for job in JOBS]})
        await connection.execute(SQL["beat"], {"process": "jobs", "detail": detail})


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""

    async def guarded(name: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except (CommandError, psycopg.Error, OSError) as exc:
            log.warning("job_failed", job=name, error=str(exc).strip())

    scheduler = AsyncIOScheduler(
        timezone=UTC, job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": 30}
    )
    now = datetime.now(UTC)
    scheduler.add_job(
        guarded,
        "interval",
        ["heartbeat", lambda: beat(settings)],
        seconds=HEARTBEAT_SECONDS,
        next_run_time=now,
    )
    for job in JOBS:
        scheduler.add_job(
            guarded,
            "interval",
            [job.name, lambda job=job: run_once(settings, job)],
            seconds=job.seconds,
            next_run_time=now,
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    scheduler.start()
    log.info("jobs_started", jobs=[job.name for job in JOBS])
    await stop.wait()
    scheduler.shutdown(wait=False)
