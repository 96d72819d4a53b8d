"""`headwater docs dictionary [--check]`."""

import asyncio

import click
import psycopg

from app.db.pool import connect
from app.docs import dictionary as pages
from app.errors import CommandError
from app.local.doctor import read_offer
from app.settings import Settings


@click.group()
def docs() -> None:
    """Write the documents that are made from the system itself."""


@docs.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page is not up to date.")
def dictionary(check: bool) -> None:
    """Write docs/data-dictionary.md from the migrated database's catalogue."""
    before = pages.PAGE.read_text() if pages.PAGE.exists() else ""
    try:
        text = asyncio.run(build(Settings.from_env().owner_database_url, before))
    except (psycopg.Error, OSError) as exc:
        raise CommandError(f"the database can't be read: {' '.join(str(exc).split())}") from None
    if check and text != before:
        raise CommandError(
            "docs/data-dictionary.md is not what the database says; run: headwater docs dictionary"
        )
    if not check:
        pages.PAGE.parent.mkdir(exist_ok=True)
        pages.PAGE.write_text(text)
    click.echo("docs/data-dictionary.md is up to date")


async def build(url: str, before: str) -> str:
    """The page as the database wants it; `before` is the one that exists."""
    async with await connect(url, application="headwater-docs") as connection:
        edition = (await read_offer(connection)).edition
        if edition == "none":
            raise CommandError("the database is empty; run: headwater migrate")
        return pages.page(await pages.read(connection), edition=edition, before=before)
