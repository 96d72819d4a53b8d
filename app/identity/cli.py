"""`headwater key create|list|revoke`."""

import asyncio
from datetime import UTC, datetime, timedelta

import click
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from app.db.cli import command_connection
from app.db.queries import queries
from app.errors import CommandError
from app.identity.key import create_key
from app.identity.permission import ROLES
from app.identity.tenant import tenant_id_of
from app.settings import Settings

SQL = queries("identity")


@click.group()
def key() -> None:
    """Create, list and revoke API keys."""


@key.command()
@click.option("--tenant", help="The tenant the key acts for; not for super_admin.")
@click.option("--role", type=click.Choice(sorted(ROLES)), default="device", show_default=True)
@click.option("--sensor", "sensors", multiple=True, help="Write only this sensor; may be repeated.")
@click.option("--title", default="", help="What or whom the key is for.")
@click.option("--days", type=click.IntRange(min=1), help="Valid for so many days; else for ever.")
def create(
    tenant: str | None, role: str, sensors: tuple[str, ...], title: str, days: int | None
) -> None:
    """Create a key and print it, once."""
    if (tenant is None) != (role == "super_admin"):
        raise CommandError("--tenant: every role needs one but super_admin, which must have none")

    async def run() -> str:
        async with command_connection(Settings.from_env()) as connection:
            return await create_key(
                connection,
                tenant_id=None if tenant is None else await tenant_id_of(connection, tenant),
                role=role,
                title=title,
                sensor_uids=list(sensors) or None,
                expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
            )

    click.echo(asyncio.run(run()))


@key.command("list")
def list_keys() -> None:
    """Show all keys, without their secrets."""

    async def run() -> list[dict[str, object]]:
        async with (
            command_connection(Settings.from_env()) as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(SQL["api_key_list"])
            return await cursor.fetchall()

    names = ("prefix", "tenant", "role", "title", "created_at", "expires_at", "revoked_at")
    table = Table(*names)
    for row in asyncio.run(run()):
        table.add_row(*("" if row[name] is None else str(row[name]) for name in names))
    Console().print(table)


@key.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Revoke the key with this PREFIX (the part after hw_), at once and for ever."""

    async def run() -> int:
        async with command_connection(Settings.from_env()) as connection:
            cursor = await connection.execute(SQL["api_key_revoke"], {"prefix": prefix})
            return cursor.rowcount

    if not asyncio.run(run()):
        raise CommandError(
            f"no valid key has the prefix {prefix!r}; `headwater key list` shows them"
        )
    click.echo(f"revoked {prefix}")
