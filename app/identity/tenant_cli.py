"""`headwater tenant create|list|login`."""

import asyncio
import re
from urllib.parse import urlsplit

import click
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from app.db.cli import command_connection
from app.db.queries import queries
from app.errors import CommandError
from app.identity.login import drop_login, make_login
from app.identity.tenant import put_tenant
from app.settings import Settings

SQL = queries("identity")


@click.group()
def tenant() -> None:
    """Create and list tenants."""


@tenant.command()
@click.argument("slug")
@click.option("--title", help="Full name; else the slug.")
@click.option(
    "--auto-register/--no-auto-register",
    default=False,
    show_default=True,
    help="Whether a reading of an unknown sensor registers it.",
)
def create(slug: str, title: str | None, auto_register: bool) -> None:
    """Create the tenant SLUG, or change its title and policy."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", slug):
        raise CommandError(f"slug {slug!r}: lower-case letters, digits, - and _ only")

    async def run() -> int:
        async with command_connection(Settings.from_env()) as connection:
            return await put_tenant(
                connection, slug=slug, title=title or slug, is_auto_register=auto_register
            )

    click.echo(f"tenant {slug} is number {asyncio.run(run())}")


@tenant.command("list")
def list_tenants() -> None:
    """Show all tenants."""

    async def run() -> list[dict[str, object]]:
        async with (
            command_connection(Settings.from_env()) as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(SQL["tenant_list"])
            return await cursor.fetchall()

    table = Table("tenant", "title", "auto-register")
    for row in asyncio.run(run()):
        table.add_row(
            str(row["slug"]), str(row["title"]), "yes" if row["is_auto_register"] else "no"
        )
    Console().print(table)


@tenant.command()
@click.argument("slug")
@click.option("--revoke", is_flag=True, help="Remove the login instead, and end its sessions.")
def login(slug: str, revoke: bool) -> None:
    """Make a database login that sees the tenant SLUG only; print its address once.

    For psql, notebooks and BI tools. Made again, it gets a new password.
    """
    settings = Settings.from_env()

    async def run() -> str:
        async with command_connection(settings, settings.owner_database_url) as connection:
            if revoke:
                return await drop_login(connection, slug)
            return await make_login(connection, slug, settings.owner_database_url)

    said = asyncio.run(run())
    click.echo(said if revoke or not settings.relay_port else relayed(said, settings))


def relayed(url: str, settings: Settings) -> str:
    """The address by way of the relay, which has the archived readings, too."""
    host = settings.relay_host
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - listens on every address; this machine is one
        host = "localhost"
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{login}@{host}:{settings.relay_port}").geturl()
