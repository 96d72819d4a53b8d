"""`headwater site create|list` and `headwater sensor create|list`."""

import asyncio
from typing import LiteralString

import click
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from app.catalogue.place import put_sensor, put_site
from app.db.cli import command_connection
from app.db.queries import queries
from app.errors import CommandError
from app.identity.tenant import tenant_id_of
from app.settings import Settings

SQL = queries("catalogue")
tenant_option = click.option("--tenant", required=True, help="The tenant it belongs to.")


@click.group()
def site() -> None:
    """Create, change and list sites: the places where sensors are."""


@click.group()
def sensor() -> None:
    """Create, change and list sensors."""


@site.command("create")
@click.argument("code")
@tenant_option
@click.option("--title", help="Full name; else the code.")
@click.option("--region", help="Catchment, district or zone that alerts are grouped by.")
@click.option("--latitude", type=click.FloatRange(-90, 90), help="Degrees north, WGS 84.")
@click.option("--longitude", type=click.FloatRange(-180, 180), help="Degrees east, WGS 84.")
def create_site(  # noqa: PLR0917 (click calls it by name)
    code: str,
    tenant: str,
    title: str | None,
    region: str | None,
    latitude: float | None,
    longitude: float | None,
) -> None:
    """Create the site CODE, or change what is given of it."""
    if (latitude is None) != (longitude is None):
        raise CommandError("--latitude and --longitude: give both or none")

    async def run() -> None:
        async with command_connection(Settings.from_env()) as connection:
            await put_site(
                connection,
                tenant_id=await tenant_id_of(connection, tenant),
                code=code,
                title=title or code,
                region=region,
                latitude=latitude,
                longitude=longitude,
            )

    asyncio.run(run())
    click.echo(f"site {code} of tenant {tenant}")


@sensor.command("create")
@click.argument("uids", nargs=-1, required=True)
@tenant_option
@click.option("--site", help="Code of the site where they are.")
@click.option("--title", help="What it is; for one sensor.")
@click.option("--status", type=click.Choice(["active", "maintenance", "retired"]))
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How often a reading of each metric is expected.",
)
def create_sensor(  # noqa: PLR0917 (click calls it by name)
    uids: tuple[str, ...],
    tenant: str,
    site: str | None,
    title: str | None,
    status: str | None,
    interval: float | None,
) -> None:
    """Create the sensors UIDS (what the devices call themselves), or change what is given of them."""
    for uid in uids:
        if not 1 <= len(uid) <= 128 or "\0" in uid:
            raise CommandError(f"uid {uid[:40]!r}: 1 to 128 characters")

    async def run() -> None:
        async with command_connection(Settings.from_env()) as connection, connection.transaction():
            tenant_id = await tenant_id_of(connection, tenant)
            for uid in uids:
                await put_sensor(
                    connection,
                    tenant_id=tenant_id,
                    uid=uid,
                    title=title,
                    site=site,
                    status=status,
                    interval_seconds=interval,
                )

    asyncio.run(run())
    click.echo(f"{len(uids)} sensor{'s' if len(uids) > 1 else ''} of tenant {tenant}")


@site.command("list")
@tenant_option
def list_sites(tenant: str) -> None:
    """Show the tenant's sites."""
    _show(tenant, SQL["site_list"])


@sensor.command("list")
@tenant_option
def list_sensors(tenant: str) -> None:
    """Show the tenant's sensors."""
    _show(tenant, SQL["sensor_list"])


def _show(tenant: str, statement: LiteralString) -> None:
    async def run() -> list[dict[str, object]]:
        async with (
            command_connection(Settings.from_env()) as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(statement, {"tenant_id": await tenant_id_of(connection, tenant)})
            return await cursor.fetchall()

    rows = asyncio.run(run())
    if not rows:
        click.echo("none yet")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)
