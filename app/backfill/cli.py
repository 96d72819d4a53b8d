"""`headwater import`: history from files straight into the database."""

import asyncio
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from app.backfill.load import Totals, judge
from app.backfill.run import Display, Import, Options
from app.db.cli import command_connection
from app.epoch import moment_of
from app.errors import CommandError
from app.settings import Settings
from jobs.rollup import bring_up_to_date

LINE_EVERY = 5.0
"""Seconds between plain lines where there is no terminal."""
REASONS = 5
"""Reasons of rejections that are shown."""


class Bar(Display):
    """A bar on a terminal, a plain line every few seconds elsewhere; on standard error."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>11,.0f} readings/s"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("import", total=0, rate=0.0)
        self._started = time.monotonic()
        self._total = self._done = 0
        self._next_line = self._started + LINE_EVERY

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def reading(self, path: Path) -> None:
        self._bar.update(self._task, description=f"reading {path.name}")

    def found(self, count: int) -> None:
        self._total += count
        self._bar.update(self._task, total=self._total, description="import")

    def wrote(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-6)
        self._bar.update(self._task, completed=self._done, rate=rate)
        if not self._is_terminal and now >= self._next_line:
            self._next_line = now + LINE_EVERY
            click.echo(f"import: {self._done:,} of {self._total:,} readings found so far", err=True)


class ShareLeft:
    """How far the rollups are: a bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("rollups"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("rollups", total=None)
        self._next_line = time.monotonic() + LINE_EVERY

    def __enter__(self) -> "ShareLeft":
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def left(self, share: float) -> None:
        self._bar.update(self._task, total=1.0, completed=1.0 - share)
        if not self._is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            click.echo(f"rollups: {1.0 - share:.0%} refreshed", err=True)


@click.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tenant", required=True, metavar="SLUG", help="Whose readings they are.")
@click.option("--create-sensors", is_flag=True, help="Register sensors the tenant does not have.")
@click.option(
    "--utc-offset",
    type=click.FloatRange(-12, 14),
    metavar="HOURS",
    help="Zone of files whose times have none: CDMO exports, Parquet without a zone.",
)
@click.option(
    "--judge",
    "is_judging",
    is_flag=True,
    help="Evaluate alerts for the imported time afterwards; raises what would have been raised.",
)
@click.option(
    "--leave-rollups", is_flag=True, help="Don't wait for the rollups; they follow by themselves."
)
@click.option("--again", is_flag=True, help="Compare every reading, also of files imported before.")
@click.option(
    "--connections",
    default=2,
    show_default=True,
    type=click.IntRange(1, 8),
    help="Writers; more than the server's cores only cost.",
)
def import_(  # noqa: PLR0917
    files: tuple[Path, ...], tenant: str, create_sensors: bool, utc_offset: float | None,
    is_judging: bool, leave_rollups: bool, again: bool, connections: int,
) -> None:  # fmt: skip
    """Load FILES of history into the database, without the API: NERRS CSV, CDMO export, USGS RDB
    (plain or gzip), and Parquet or CSV with the columns sensor, ts, metric, value and perhaps unit.

    Killed and run again, it goes on where it stopped; nothing is stored twice. At the end the rollups
    of the imported time are refreshed. Alerts are not evaluated (see --judge)."""
    settings = Settings.from_env()
    options = Options(
        tenant=tenant, is_create_sensors=create_sensors, is_again=again, utc_offset=utc_offset,
        connections=connections,
    )  # fmt: skip
    started = time.monotonic()
    bar = Bar()
    run = Import(settings, options, bar)
    try:
        with bar:
            asyncio.run(run.run(files))
    finally:
        report(run.totals, time.monotonic() - started)
    if not leave_rollups:
        asyncio.run(_roll_up(settings, run.totals))
    if is_judging:
        asyncio.run(_judge(settings, run.totals))


async def _roll_up(settings: Settings, totals: Totals) -> None:
    """What is stored stays stored, whatever becomes of this."""
    if totals.first_us is None or totals.last_us is None:
        return
    started = time.monotonic()
    try:
        with ShareLeft() as share:
            async with command_connection(settings, settings.direct_database_url) as connection:
                await bring_up_to_date(
                    connection, first=moment_of(totals.first_us), last=moment_of(totals.last_us),
                    tell=share.left,
                )  # fmt: skip
    except CommandError as exc:
        click.echo(
            f"rollups: {exc}; they follow by themselves, `headwater jobs --once refresh_rollups` waits"
            " for it",
            err=True,
        )
    else:
        click.echo(f"rollups refreshed in {time.monotonic() - started:.1f} s")


async def _judge(settings: Settings, totals: Totals) -> None:
    if totals.first_us is None or totals.last_us is None:
        click.echo("nothing new to judge")
        return
    async with command_connection(settings) as connection:
        await judge(connection, first_us=totals.first_us, last_us=totals.last_us)
    click.echo("alerts evaluated for the imported time")


def report(totals: Totals, seconds: float) -> None:
    """The last lines: what became of every reading."""
    click.echo(
        f"{totals.readings:,} readings of {totals.files:,} files in {seconds:.1f} s,"
        f" {totals.readings / max(seconds, 1e-6):,.0f} readings/s"
    )
    click.echo(
        f"stored {totals.stored:,}, duplicate {totals.duplicate:,},"
        f" conflict {totals.conflict:,}, rejected {totals.rejected.total():,}"
    )
    if totals.skipped:
        click.echo(f"{totals.skipped:,} of them were imported before and left alone")
    for (field, reason), count in totals.rejected.most_common(REASONS):
        click.echo(f"rejected {count:,}: {field} {reason}")
