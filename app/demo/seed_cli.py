"""`headwater seed`."""

import asyncio

import click

from app.db.cli import command_connection
from app.demo.expected import read_rules
from app.demo.seed import STATIONS, TENANT, Keys, seed
from app.settings import Settings


@click.command("seed")
def seed_command() -> None:
    """Set up the tenant `demo`: stations, thresholds and two keys; its old readings are removed."""

    async def run() -> Keys:
        settings = Settings.from_env()
        async with command_connection(settings, settings.owner_database_url) as connection:
            return await seed(connection, read_rules())

    keys = asyncio.run(run())
    click.echo(f"tenant {TENANT}: {len(STATIONS)} stations, {len(read_rules())} thresholds")
    click.echo(f"gateway key (writes readings):       {keys.gateway}")
    click.echo(f"operator key (reads, decides alerts): {keys.operator}")
