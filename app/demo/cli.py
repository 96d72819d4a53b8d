"""`headwater demo`."""

import asyncio
import shutil

import click
import msgspec

from app.demo.run import Report, run_demo
from app.demo.seed import TENANT
from app.paths import STATE

REPORT = STATE / "demo-report.json"


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave everything running; `headwater dev down` stops it."
)
@click.option(
    "--days",
    type=click.FloatRange(min=1, max=365),
    default=90,
    show_default=True,
    help="How many days of each station to replay.",
)
def demo(keep: bool, days: float) -> None:
    """Replay real data through the whole system and compare everything with the files."""
    report = asyncio.run(run_demo(days=days, keep=keep, say=click.echo))
    REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    show(report, keep=keep)
    if not report.holds:
        raise SystemExit(1)


def show(report: Report, *, keep: bool) -> None:
    """The report for people."""
    r, a = report.readings, report.alerts
    latency = a["latency_ms"]
    headwater = "headwater" if shutil.which("headwater") else ".venv/bin/headwater"
    lines = [
        "",
        f"TimescaleDB {report.edition} edition, Citus {report.citus or 'not installed'}",
        f"readings  {r.sent:,} sent: {r.stored:,} stored ({r.late:,} late), {r.duplicate:,} duplicate,"
        f" {r.conflict:,} conflict, {r.rejected:,} rejected",
        f"ingest    {report.ingest['readings_per_second']:,.0f} readings/s"
        f" for {report.ingest['seconds']:.1f} s, thresholds judged, acknowledged after commit",
        f"alerts    {a['opened']:,} opened, {a['resolved']:,} resolved; the data demands"
        f" {a['expected']:,}: {a['missing']:,} missing, {a['unexpected']:,} unexpected",
        f"latency   {latency['p50']} ms p50, {latency['p99']} ms p99 from POST to subscriber,"
        " at full load",
        "rollups   "
        + ", ".join(
            f"{name}: {rollup.rows:,} rows {'equal' if rollup.equal_to_raw else 'DIFFER FROM'} raw"
            for name, rollup in report.rollups.items()
        ),
        f"report    {REPORT}",
        *(f"DOES NOT HOLD: {problem}" for problem in report.problems),
        "Every comparison holds." if report.holds else "",
        "",
        f"API            {report.urls['api']}",
        f"documentation  {report.urls['docs']}",
        *(
            (
                f"key to look    {headwater} key create --tenant {TENANT} --role operator",
                f"Running; `{headwater} dev down` stops it.",
            )
            if keep
            else ("Stopped; `make demo KEEP=1` leaves it running.",)
        ),
    ]
    click.echo("\n".join(lines))
