"""`headwater serve`: the API in one or more worker processes.

Starts while the database is down (and says so): requests get 503 until it is back. Refuses to start on a
database that is behind the code. A worker that dies is replaced; when this process is killed, its workers
go with it.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

import click
import psycopg

from app.errors import CommandError
from app.settings import Settings

if TYPE_CHECKING:
    from litestar import Litestar

PR_SET_PDEATHSIG = 1
CONNECT_SECONDS = 3.0
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
"""What glibc gives the workers: a batch's buffers are used again, not mapped and faulted in each time."""


@click.command()
@click.option("--host", help="Address to listen on; default: HEADWATER_HOST.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen on; default: HEADWATER_PORT."
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes."
)
def serve(host: str | None, port: int | None, workers: int) -> None:
    """Serve the API until SIGTERM or SIGINT."""
    if host is not None:
        os.environ["HEADWATER_HOST"] = host
    if port is not None:
        os.environ["HEADWATER_PORT"] = str(port)
    settings = Settings.from_env()
    check_port(settings.headwater_host, settings.headwater_port)
    warning = asyncio.run(check_database(settings))
    if warning:
        click.echo(f"headwater: {warning}", err=True)
    metrics = None
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # before any import of prometheus_client: it looks once
        metrics = tempfile.mkdtemp(prefix="headwater-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    for name, size in MALLOC.items():
        os.environ.setdefault(name, size)
    try:
        run(settings, workers)
    finally:
        if metrics is not None:
            shutil.rmtree(metrics, ignore_errors=True)


def run(settings: Settings, workers: int) -> None:
    """Run granian until it is told to stop."""
    from granian import Granian
    from granian.constants import Interfaces, Loops

    from app.ops import logs

    logs.configure()
    address = f"http://{settings.headwater_host}:{settings.headwater_port}"
    click.echo(f"Serving on {address} (documentation: {address}/docs)", err=True)
    Granian(
        "app.serve:application",
        address=settings.headwater_host,
        port=settings.headwater_port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=workers,
        factory=True,
        websockets=True,
        respawn_failed_workers=True,
        workers_kill_timeout=15,
        log_dictconfig=logs.logging_config(),
    ).serve()


def application() -> "Litestar":
    """What each worker runs."""
    from app.asgi import create_app
    from app.ops import logs

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    logs.configure()
    return create_app()


def check_port(host: str, port: int) -> None:
    """Raise CommandError where we could not listen."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, proto)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise CommandError(
            f"can't listen on {host}:{port}: {reason.lower()}; stop the other program or choose "
            "another --port"
        ) from None


async def check_database(settings: Settings) -> str | None:
    """A warning where the database can't be asked; CommandError where it is behind the code."""
    from app.db.pool import conninfo
    from app.migrate import engine

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            url = conninfo(settings.database_url, application="headwater-serve")
            connection = await psycopg.AsyncConnection.connect(url)
            await connection.close()
    except (TimeoutError, OSError, psycopg.Error) as exc:
        reason = " ".join(str(exc).split()) or "no answer"
        return f"the database can't be reached, requests get 503 until it is back ({reason})"
    try:
        complaint = (await engine.status(settings.database_url)).complaint
    except psycopg.Error as exc:
        return f"can't tell whether the database is up to date ({' '.join(str(exc).split())})"
    if complaint:
        raise CommandError(complaint)
    return None
