"""`headwater archive`: run, status, verify, restore, release, keep, hold."""

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

import click
import psycopg

from app.archive.book import only_archiver, owner_connection, rows
from app.archive.check import check
from app.archive.hot import bring_back
from app.archive.lake import LakeError
from app.archive.place import Place
from app.errors import BadRequest, CommandError
from app.read.parameter import moment
from app.settings import Settings
from jobs import archive as job

BUSY = "another process archives, or moves shards, right now; try again when it is done"


@click.group()
def archive() -> None:
    """Move old readings to Parquet files, prove them, bring them back."""


def _do(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except LakeError as exc:
        raise CommandError(str(exc)) from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as exc:
        raise CommandError(
            f"the database lacks our schema ({exc.diag.message_primary}); run `headwater migrate`"
        ) from None
    except psycopg.Error as exc:
        raise CommandError(exc.diag.message_primary or str(exc).strip()) from None


@archive.command()
@click.option("--most", type=click.IntRange(min=1), help="Most chunks to move.")
def run(most: int | None) -> None:
    """Move closed chunks older than ARCHIVE_AFTER_DAYS; delete what no tenant keeps any longer."""
    done = _do(job.run(Settings.from_env(), most=most))
    if not done.is_mine:
        raise CommandError(BUSY)
    click.echo(f"{done.moved} chunks moved, {done.expired} readings expired")
    if done.problems:
        raise CommandError("; ".join(done.problems))


@archive.command()
def status() -> None:
    """What is cold, what waits, what went wrong."""

    async def ask() -> None:
        settings = Settings.from_env()
        click.echo(f"place       {Place.of(settings).data_path}")
        async with owner_connection(settings) as connection:
            age = timedelta(days=settings.archive_after_days)
            ((waiting,),) = await rows(connection, "status_waiting", age=age)
            click.echo(
                f"waiting     {waiting} chunks older than {settings.archive_after_days} days"
            )
            for state, is_late, exports, count, size, begin, end, twice, other in await rows(
                connection, "status_states"
            ):
                click.echo(
                    f"{state:10}  {exports} exports{' of late readings' if is_late else ''}:"
                    f" {count} readings, {size} bytes, {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
                    + (f", {twice} duplicates ({other} with another value)" if twice else "")
                )
            for ranges, begin, end in await rows(connection, "status_restored"):
                click.echo(
                    f"restored    {ranges} ranges of {begin:%Y-%m-%d} to {end:%Y-%m-%d} are hot, too"
                )
            for slug, days, is_held, reason in await rows(connection, "policies"):
                kept = "for ever" if days is None else f"{days} days"
                click.echo(f"keep        {slug}: {kept}" + (f", held: {reason}" if is_held else ""))
            for number, begin, state, problem in await rows(connection, "status_problems"):
                click.echo(f"problem     export {number} of {begin:%Y-%m-%d} ({state}): {problem}")

    _do(ask())


@archive.command()
@click.option("--quick", is_flag=True, help="Only ask for the files' sizes.")
def verify(quick: bool) -> None:
    """Read everything cold again and compare it with the manifests."""

    async def ask() -> tuple[int, list[Any]]:
        settings = Settings.from_env()
        async with owner_connection(settings) as connection, job.lake_writer(settings) as lake:
            return await check(connection, lake, is_quick=quick)

    count, findings = _do(ask())
    for one in findings:
        click.echo(f"export {one.export_id} of {one.day}: {one.problem}")
    if findings:
        raise CommandError(f"{len(findings)} of {count} exports are not what they were")
    click.echo(f"{count} exports are what they were")


def _range(begin: str, end: str) -> dict[str, datetime]:
    try:
        span = {"range_from": moment("--from", begin), "range_to": moment("--to", end)}
    except BadRequest as exc:
        raise CommandError(exc.detail) from None
    if span["range_from"] >= span["range_to"]:
        raise CommandError("--from: must be before --to")
    return span


FROM = click.option("--from", "begin", required=True, metavar="TIME", help="Begin, inclusive.")
TO = click.option("--to", "end", required=True, metavar="TIME", help="End, exclusive.")


@archive.command()
@FROM
@TO
def restore(begin: str, end: str) -> None:
    """Bring cold readings back into the database; they stay until `release`."""

    async def work() -> tuple[int, int]:
        settings = Settings.from_env()
        span = _range(begin, end)
        count = 0
        async with owner_connection(settings) as connection, only_archiver(connection) as is_mine:
            if not is_mine:
                raise CommandError(BUSY)
            if not await rows(connection, "cold_ranges", **span):
                raise CommandError(
                    f"nothing from {begin} to {end} is archived; `headwater archive status` says what is"
                )
            async with job.lake_writer(settings) as lake:
                ranges = await rows(connection, "restore_ranges", **span)
                for lower, upper in ranges:
                    count += await bring_back(connection, lake, range_from=lower, range_to=upper)
        return len(ranges), count

    chunks, count = _do(work())
    if not chunks:
        click.echo("all that is archived of that time is hot already, or on its way to the archive")
        return
    click.echo(f"{chunks} ranges with {count} readings are hot again; `release` lets them go")


@archive.command()
@FROM
@TO
def release(begin: str, end: str) -> None:
    """Let restored ranges go: the next run moves them again."""

    async def work() -> int:
        async with owner_connection(Settings.from_env()) as connection:
            return len(await rows(connection, "restore_release", **_range(begin, end)))

    count = _do(work())
    if not count:
        raise CommandError(f"nothing from {begin} to {end} was restored")
    click.echo(f"{count} ranges go with the next run")


def _policy(name: str, slug: str, **arguments: object) -> None:
    async def work() -> bool:
        async with owner_connection(Settings.from_env()) as connection:
            return bool(await rows(connection, name, slug=slug, **arguments))

    if not _do(work()):
        raise CommandError(f"there is no tenant {slug!r}; `headwater tenant list` shows them")


@archive.command()
@click.argument("tenant")
@click.option("--days", type=click.IntRange(min=1), help="Without it: for ever.")
def keep(tenant: str, days: int | None) -> None:
    """Say how long a tenant's cold readings are kept."""
    _policy("policy_keep", tenant, keep_days=days)
    click.echo(f"{tenant}: kept {'for ever' if days is None else f'{days} days'}")


@archive.command()
@click.argument("tenant")
@click.option("--reason", help="Why nothing may be deleted; without it the hold ends.")
def hold(tenant: str, reason: str | None) -> None:
    """Begin (--reason) or end a tenant's legal hold."""
    _policy("policy_hold", tenant, reason=reason)
    click.echo(f"{tenant}: {'held: ' + reason if reason else 'not held'}")
