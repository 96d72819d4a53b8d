"""`headwater jobs`."""

import asyncio
import dataclasses

import click

from app.errors import CommandError
from app.settings import Settings
from jobs.scheduler import JOBS, run_once, serve


@click.command()
@click.option("--once", metavar="JOB", help="Run this job now and return; see --list.")
@click.option("--list", "is_list", is_flag=True, help="Show the jobs and how often they run.")
def jobs(once: str | None, is_list: bool) -> None:
    """Run the scheduled jobs until stopped."""
    by_name = {job.name: job for job in JOBS}
    if is_list:
        for job in JOBS:
            click.echo(f"{job.name}  every {job.seconds} s")
    elif once is None:
        asyncio.run(serve(Settings.from_env()))
    elif once not in by_name:
        raise CommandError(f"--once: there is no job {once!r}; there are {', '.join(by_name)}")
    else:
        job = by_name[once]
        job = dataclasses.replace(job, run=job.now or job.run)
        ran = asyncio.run(run_once(Settings.from_env(), job))
        click.echo(f"{once}: done" if ran else f"{once}: another process runs it right now")
