"""`headwater replay`: recorded files in, batches out over HTTP, totals at the end."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from app.epoch import micros
from app.errors import CommandError
from app.replay import send
from app.replay.feed import Batch
from app.replay.pace import Pace, Recorded, Steady, Unpaced
from app.replay.progress import Display
from app.replay.readers import read_files
from app.replay.send import Totals
from app.replay.series import SECOND, Series, align, clone, count, cut, last_days, shift_to
from app.settings import Settings

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command(name="replay")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--rate",
    default=None,
    metavar="real|N|max",
    help="Original spacing, N readings a second, or as fast as possible (default).",
)
@click.option(
    "--speedup",
    type=click.FloatRange(min=0, min_open=True),
    help="With --rate real: so many times as fast as it was recorded.",
)
@click.option(
    "--shift-to-now",
    is_flag=True,
    help="Move all readings by the same time so that the newest is now.",
)
@click.option(
    "--align", "aligned", is_flag=True, help="First move each station so that all end together."
)
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    help="Only the last N days of each station.",
)
@click.option("--from", "start", type=MOMENT, help="Only from this time of the file on, UTC.")
@click.option("--to", "end", type=MOMENT, help="Only before this time of the file, UTC.")
@click.option(
    "--sensors",
    type=click.IntRange(min=1),
    metavar="N",
    help="Send each station as N sensors named uid-1 to uid-N.",
)
@click.option(
    "--utc-offset",
    type=click.FloatRange(-12, 14),
    metavar="HOURS",
    help="Standard time of CDMO export files, such as -6.",
)
@click.option(
    "--batch",
    default=2_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most readings in one request.",
)
@click.option(
    "--clients",
    default=8,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most requests at a time.",
)
@click.option("--url", help="Base address of the API (default: HEADWATER_URL or the local one).")
@click.option("--key", envvar="HEADWATER_KEY", help="API key (default: HEADWATER_KEY).")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send nothing.")
def replay(  # noqa: PLR0917
    files: tuple[Path, ...], rate: str | None, speedup: float | None, shift_to_now: bool,
    aligned: bool, days: float | None, start: datetime | None, end: datetime | None,
    sensors: int | None, utc_offset: float | None, batch: int, clients: int,
    url: str | None, key: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Read FILES (NERRS CSV, CDMO export, USGS RDB; plain or gzip) and post them as their sensors
    would: in time order, one request per sensor at a time, several sensors at once."""
    pace_of(rate, speedup, 0)  # refuse a wrong option before reading files
    series = read_files(files, utc_offset=utc_offset)
    series = cut(series, start=utc_micros(start), end=utc_micros(end))
    if days is not None:
        series = last_days(series, days)
    if not series:
        raise CommandError("no readings in the chosen files and times")
    if aligned:
        series = align(series)
    if shift_to_now:
        series = shift_to(series, int(time.time()) * SECOND)
    if sensors is not None:
        series = clone(series, sensors)
    if dry_run:
        describe(series)
        return
    key = (key or "").strip()
    if not key:
        raise CommandError("no API key: give --key or set HEADWATER_KEY (headwater key create)")
    if not (key.isascii() and key.isprintable()):
        raise CommandError("the API key holds characters that no key has: was it cut or mistyped?")
    address = url or Settings.from_env().headwater_url
    origin = min(int(one.ts[0]) for one in series)
    totals = Totals()
    try:
        with Display(count(series)) as display:

            def note(now: Totals, answered: Batch) -> None:
                nonlocal totals
                totals = now
                display.update(now, answered)

            asyncio.run(
                send.replay(
                    series, url=address, key=key, pace=pace_of(rate, speedup, origin),
                    batch=batch, clients=clients, explain=True, on_progress=note,
                )
            )  # fmt: skip
    finally:
        report(totals)


def pace_of(rate: str | None, speedup: float | None, origin: int) -> Pace:
    """The pace that --rate and --speedup ask for; `origin` is the oldest reading's time."""
    if rate == "real" or (rate is None and speedup is not None):
        return Recorded(origin, speedup or 1.0)
    if speedup is not None:
        raise CommandError("--speedup goes with --rate real")
    if rate is None or rate == "max":
        return Unpaced()
    try:
        per_second = float(rate)
    except ValueError:
        per_second = 0.0
    if not 0 < per_second < float("inf"):
        raise CommandError(f"--rate {rate}: real, max or a number of readings a second expected")
    return Steady(per_second)


def utc_micros(moment: datetime | None) -> int | None:
    """A moment of the command line, which is UTC."""
    return None if moment is None else micros(moment.replace(tzinfo=UTC))


def describe(series: list[Series]) -> None:
    """What a dry run prints: a line per sensor and metric, then the sum."""
    for one in series:
        first, last = (datetime.fromtimestamp(int(one.ts[at]) / SECOND, UTC) for at in (0, -1))
        click.echo(
            f"{one.sensor:<24} {one.metric:<28} {one.unit or '-':<6} {len(one.ts):>9,}"
            f"  {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
        )
    sensors = len({one.sensor for one in series})
    click.echo(f"{count(series):,} readings of {sensors} sensors; nothing was sent")


def report(totals: Totals) -> None:
    """The last lines: what became of everything that was answered."""
    rate = totals.sent / totals.seconds if totals.seconds else 0.0
    click.echo(
        f"{totals.sent:,} readings sent in {totals.requests:,} requests,"
        f" {totals.seconds:.1f} s, {rate:,.0f} readings/s, {totals.retries:,} retries"
    )
    click.echo(
        f"stored {totals.stored:,} (late {totals.late:,}), duplicate {totals.duplicate:,},"
        f" conflict {totals.conflict:,}, rejected {totals.rejected:,}"
    )
    if totals.refused_because:
        click.echo(f"first refusal: {totals.refused_because}")
