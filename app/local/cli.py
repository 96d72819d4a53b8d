"""`headwater dev`: the local runtime from the command line."""

import asyncio
import os
import shutil
from pathlib import Path

import click

from app.cluster.worker import complete_local
from app.errors import CommandError
from app.identity.login import PLATFORM
from app.local import processes, relay
from app.local.credentials import DATABASE, HOST, OWNER, POSTGRES, RELAY, SUPERUSER
from app.local.runtime import Runtime
from app.local.workers import MOST_WORKERS
from app.paths import ROOT

ROLES = {
    "owner": OWNER,
    "app": "headwater_app",
    "ingest": "headwater_ingest",
    "analyst": "headwater_analyst",
    "sql": "headwater_sql",
    "grafana": "headwater_grafana",
    "superuser": SUPERUSER,
}
NOT_RUNNING = 3


@click.group()
def dev() -> None:
    """A private PostgreSQL and Redis under .headwater/, on free loopback ports."""


@dev.command()
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=MOST_WORKERS),
    help="A coordinator and so many Citus workers; without it, as many as there are.",
)
def up(workers: int | None) -> None:
    """Make what is missing, start what is down; safe to repeat, also after kill -9."""
    runtime = Runtime(workers=workers)
    runtime.start(click.echo)
    if runtime.workers:
        asyncio.run(complete_local(runtime.superuser_url, click.echo))
    click.echo(f"PostgreSQL  {HOST}:{runtime.credentials.postgres_port}  (headwater dev psql)")
    for node in runtime.workers:
        click.echo(f"{node.name:<12}{HOST}:{node.port}")
    click.echo(f"Redis       {HOST}:{runtime.credentials.redis_port}")
    relay.start(runtime, click.echo)
    click.echo(
        f"Relay       {HOST}:{runtime.credentials.relay_port}  (psql over archived readings)"
    )
    click.echo(f"Settings    {_short(runtime.folder.env)}")
    click.echo("Next: headwater migrate")


@dev.command()
def down() -> None:
    """Stop the servers and the processes started beside them; data stays."""
    stopped = Runtime().stop()
    click.echo(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@dev.command()
def status() -> None:
    """What runs, where, and how large it is; exit status 3 unless every server runs."""
    runtime = Runtime()
    credentials = runtime.credentials
    rows: list[tuple[str, int | None, str, Path | None]] = [
        (
            "PostgreSQL" if node.name == POSTGRES else node.name,
            node.pid,
            f"{HOST}:{node.port}",
            node.cluster.home,
        )
        for node in runtime.nodes
    ]
    rows.append(("Redis", runtime.redis_pid, f"{HOST}:{credentials.redis_port}", None))
    is_up = all(pid for _, pid, _, _ in rows)
    for name in processes.names(run=runtime.folder.run):
        address = f"{HOST}:{credentials.relay_port}" if name == RELAY else ""
        rows.append((name, processes.pid_of(name, run=runtime.folder.run), address, None))
    for name, pid, address, home in rows:
        state = f"pid {pid}" if pid else "down"
        place = f"{_size(home)} in {_short(home)}" if home else ""
        click.echo(f"{name:<12}{state:<12}{address:<18}{place}".rstrip())
    if not is_up:
        raise click.exceptions.Exit(NOT_RUNNING)


@dev.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--role",
    type=click.Choice(list(ROLES)),
    default="owner",
    show_default=True,
    help="Log in as; superuser may do anything.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(role: str, arguments: tuple[str, ...]) -> None:
    """Open psql on the local database; ARGUMENTS are psql's own.

    The analyst and Grafana's role go through the relay while it runs, and so see archived readings, too.
    """
    runtime = Runtime()
    credentials = runtime.credentials
    if runtime.pg_pid is None:
        raise CommandError("PostgreSQL is down: run `headwater dev up`")
    beside = runtime.bindir / "psql"
    program = str(beside) if os.access(beside, os.X_OK) else shutil.which("psql")
    if program is None:
        raise CommandError("there is no psql on this machine: run `make setup`")
    is_relayed = ROLES[role] in PLATFORM and relay.is_up(runtime)
    port = credentials.relay_port if is_relayed else credentials.postgres_port
    login = {  # not on the command line, where everybody could read the password
        "PGHOST": HOST,
        "PGPORT": str(port),
        "PGDATABASE": DATABASE,
        "PGUSER": ROLES[role],
        "PGPASSWORD": credentials.passwords[ROLES[role]],
    }
    os.execve(program, ["psql", *arguments], {**os.environ, **login})  # noqa: S606


@dev.command()
@click.option("--yes", is_flag=True, help="Don't ask.")
def reset(yes: bool) -> None:
    """Remove the local databases, ports and passwords for good; logs stay."""
    runtime = Runtime()
    homes = [node.cluster.home for node in runtime.nodes]
    if not any(home.exists() for home in (*homes, runtime.folder.env)):
        click.echo("There is nothing to remove.")
        return
    if not yes:
        click.confirm(
            f"Remove {_size(*homes)} of data in {', '.join(map(_short, homes))}?", abort=True
        )
    runtime.destroy()
    click.echo("Removed. `headwater dev up` starts anew.")


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _size(*folders: Path) -> str:
    size = 0
    for place, _, names in (found for folder in folders for found in os.walk(folder)):
        for name in names:
            try:
                size += Path(place, name).lstat().st_blocks * 512
            except FileNotFoundError:  # the server removes files while we look
                continue
    return f"{size / 2**20:,.0f} MB"
