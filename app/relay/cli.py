"""`headwater relay`."""

import asyncio
import signal

import click
import msgspec
import uvloop

from app.errors import CommandError
from app.ops import logs
from app.relay.server import Relay
from app.settings import Settings


@click.command()
@click.option("--host", help="Address to listen on; default: RELAY_HOST.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen on; default: RELAY_PORT."
)
def relay(host: str | None, port: int | None) -> None:
    """Speak PostgreSQL's protocol to psql and BI tools, over hot and archived readings."""
    settings = Settings.from_env()
    settings = msgspec.structs.replace(
        settings,
        relay_host=host or settings.relay_host,
        relay_port=port or settings.relay_port,
    )
    if not settings.relay_port:
        raise CommandError("RELAY_PORT is 0; give --port or set it")
    if not settings.sql_database_url:
        raise CommandError("SQL_DATABASE_URL is empty; set it to log in as headwater_sql")
    logs.configure()
    try:
        uvloop.run(_serve(settings))
    except OSError as exc:
        raise CommandError(
            f"can't listen on {settings.relay_host}:{settings.relay_port}: "
            f"{exc.strerror or exc}; stop the other program or choose another --port"
        ) from None


async def _serve(settings: Settings) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    async with Relay(settings).serving() as port:
        click.echo(f"Relaying on {settings.relay_host}:{port}", err=True)
        await over.wait()
