"""`headwater rate tenant|key|list`."""

import asyncio
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.db.cli import command_connection
from app.errors import CommandError
from app.rate.override import Override, api_key_rate_set, rate_list, tenant_rate_set
from app.settings import Settings

RATE = click.option(
    "--readings-per-second",
    type=click.FloatRange(min=0, max=1e12),
    help="Readings a second; 0: no limit. Left out: back to the settings' default.",
)
BURST = click.option(
    "--burst",
    type=click.FloatRange(min=1, max=1e12),
    help="Readings that may come at once. Left out: ten seconds' worth.",
)


@click.group()
def rate() -> None:
    """Give tenants and keys rate limits of their own."""


@rate.command()
@click.argument("slug")
@RATE
@BURST
def tenant(slug: str, readings_per_second: float | None, burst: float | None) -> None:
    """Limit what all keys of the tenant SLUG may send together."""

    async def run() -> int | None:
        async with command_connection(Settings.from_env()) as connection:
            return await tenant_rate_set(
                connection,
                slug=slug,
                readings_per_second=readings_per_second,
                burst_readings=burst,
            )

    _settle(run, f"tenant {slug}", "`headwater tenant list`")


@rate.command()
@click.argument("prefix")
@RATE
@BURST
def key(prefix: str, readings_per_second: float | None, burst: float | None) -> None:
    """Limit what may be sent with the key that has this PREFIX (the part after hw_)."""

    async def run() -> int | None:
        async with command_connection(Settings.from_env()) as connection:
            return await api_key_rate_set(
                connection,
                prefix=prefix,
                readings_per_second=readings_per_second,
                burst_readings=burst,
            )

    _settle(run, f"key {prefix}", "`headwater key list`")


@rate.command("list")
def list_rates() -> None:
    """Show the limits that differ from the settings'."""

    async def run() -> list[Override]:
        async with command_connection(Settings.from_env()) as connection:
            return await rate_list(connection)

    table = Table("of", "name", "readings a second", "burst")
    for found in asyncio.run(run()):
        table.add_row(
            found.kind,
            found.name,
            _number(found.readings_per_second),
            _number(found.burst_readings),
        )
    Console().print(table)


def _settle(run: Callable[[], Any], what: str, where: str) -> None:
    if asyncio.run(run()) is None:
        raise CommandError(f"there is no {what}; {where} shows all")
    click.echo(f"{what}: done, from now on")


def _number(value: float | None) -> str:
    return "default" if value is None else f"{value:,g}"
