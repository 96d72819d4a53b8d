"""`headwater sql "select …"`: the API's guard, cursor and limits, on connections of its own."""

import asyncio
import csv
import sys
from contextlib import nullcontext

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.db.cli import command_connection
from app.errors import CommandError, Problem
from app.identity.tenant import tenant_id_of
from app.query.answer import ENCODER, Answer, as_arrow, cell
from app.query.hot import Parameter
from app.query.run import Question, run, sql_pass
from app.settings import Settings


@click.command()
@click.argument("statement")
@click.option("--tenant", help="Only this tenant's rows; else every tenant's.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "arrow"]),
    default="table",
    show_default=True,
)
@click.option("--limit", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option("--param", "params", multiple=True, help="Value of $1, $2, …, as text; repeat it.")
def sql(statement: str, tenant: str | None, form: str, limit: int, params: tuple[str, ...]) -> None:
    """Run one SELECT (STATEMENT, or - for standard input) over the contract's views."""
    text = sys.stdin.read() if statement == "-" else statement
    settings = Settings.from_env()
    if not settings.sql_database_url:
        raise CommandError("SQL_DATABASE_URL is empty; set it to log in as headwater_sql")
    try:
        answer = asyncio.run(_ask(settings, text, tenant, limit, list(params)))
        _show(answer, form)
    except Problem as exc:
        raise CommandError(exc.detail) from None
    if answer.engine == "duckdb":
        scanned = answer.scanned
        click.echo(
            f"headwater: answered by DuckDB, with {scanned.cold_rows:,} archived readings in"
            f" {scanned.cold_files:,} files ({scanned.cold_bytes:,} bytes)",
            err=True,
        )
    if answer.truncated:
        click.echo(f"headwater: there are more than these {answer.row_count} rows", err=True)


async def _ask(
    settings: Settings, text: str, tenant: str | None, limit: int, params: list[Parameter]
) -> Answer:
    async with command_connection(settings) as main:
        tenant_id = None if tenant is None else await tenant_id_of(main, tenant)
        permit = await sql_pass(main, tenant_id=tenant_id)
        question = Question(sql=text, parameters=params, limit=limit, tenant_id=tenant_id)
        async with command_connection(settings, settings.sql_database_url) as connection:
            await connection.set_read_only(True)
            return await run(connection, question, permit, lambda: nullcontext(main), settings)


def _show(answer: Answer, form: str) -> None:
    if form == "json":
        click.echo(msgspec.json.format(ENCODER.encode(answer)).decode())
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(column.name for column in answer.columns)
        writer.writerows([cell(value) for value in row] for row in answer.rows)
    elif form == "arrow":
        sys.stdout.buffer.write(as_arrow(answer))
    else:
        table = Table()
        for column in answer.columns:
            table.add_column(_plain(column.name))
        for row in answer.rows:
            table.add_row(*(_plain(value) for value in row))
        Console().print(table)


def _plain(value: object) -> Text:
    """What may stand on a terminal: no control characters, no markup."""
    return Text("".join(c if c.isprintable() else " " for c in str(cell(value))))
