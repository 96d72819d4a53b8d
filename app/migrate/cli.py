"""`headwater migrate`: bring the database up to date, or say how far it is from that.

Connects with OWNER_DATABASE_URL, as a role that may create roles and extensions.
"""

import asyncio

import click

from app.errors import CommandError
from app.migrate import engine
from app.migrate.engine import Status
from app.settings import Settings


@click.command()
@click.option("--status", "mode", flag_value="status", help="List every file and its state.")
@click.option("--check", "mode", flag_value="check", help="Exit 1 if anything is pending or wrong.")
@click.option("--dry-run", "mode", flag_value="dry-run", help="Say what would be done, in order.")
@click.option(
    "--wait",
    default=engine.LOCK_WAIT_SECONDS,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for another migrator to finish.",
)
def migrate(mode: str | None, wait: float) -> None:
    """Bring the database up to date with migrations/ and sql/."""
    url = Settings.from_env().owner_database_url
    if mode is None:
        result = asyncio.run(engine.migrate(url, report=click.echo, lock_wait=wait))
        editions = ", ".join(result.editions) or "none"
        click.echo(
            f"{len(result.applied)} files applied in {result.seconds:.1f} s (edition: {editions})"
        )
        return
    state = asyncio.run(engine.status(url))
    if mode == "status":
        _print_status(state)
    elif mode == "dry-run":
        _print_steps(state)
    elif state.complaint:
        raise CommandError(state.complaint)
    else:
        click.echo("up to date")


def _print_status(state: Status) -> None:
    width = max((len(row.file) for row in state.rows), default=4)
    click.echo(f"{'file':{width}}  {'state':11}  {'edition':9}  applied at")
    for row in state.rows:
        when = f"{row.applied_at:%Y-%m-%d %H:%M:%S %Z}" if row.applied_at else "-"
        note = f"  {row.note}" if row.note else ""
        click.echo(f"{row.file:{width}}  {row.state:11}  {row.edition:9}  {when}{note}")
    click.echo(f"edition objects in place or due: {', '.join(state.editions) or 'none'}")
    for line in (*state.notes, *state.problems):
        click.echo(line)


def _print_steps(state: Status) -> None:
    if state.problems:
        raise CommandError("; ".join(state.problems))
    for file, reason in state.steps:
        click.echo(f"{file}  {reason}")
    for note in state.notes:
        click.echo(f"note: {note}")
    if not state.steps:
        click.echo("nothing to do")
