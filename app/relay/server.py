"""The relay: listens as PostgreSQL does, and has a connection to the real server for each client.

A client that breaks the rules, is slow or vanishes costs its own session and no other. A server that is
down is told to each client properly; nothing here needs a restart when it is back.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolTimeout

from app.db.pool import make_pool
from app.errors import CommandError, Unavailable
from app.query.desk import Desk
from app.query.run import Question
from app.relay import wire
from app.relay.door import STARTUP_SECONDS, Reader, Refused, Startup, enter, knock
from app.relay.feed import Feed
from app.relay.judge import Judge, NoDoor
from app.relay.line import Line, TooLong
from app.relay.session import Session
from app.relay.teller import Teller
from app.relay.wire import Malformed, failure
from app.settings import Settings

log = structlog.get_logger()

MOST_CLIENTS = 500
CONNECT_SECONDS = 5.0
DEFAULT_PORT = 5432
CHUNK = 262_144
KEEPALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 60_000,
}
"""Whoever is gone without a word is noticed."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Takes connections; `serving` runs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = hosts_of(settings.direct_database_url or settings.database_url)
        self._tls = tls_of(settings)
        self._main = make_pool(settings)
        self._desk = Desk(settings, self._main)
        self._judge = Judge(settings, self._main)
        self._sessions: dict[bytes, Teller] = {}
        self._clients: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port that it listens on. Raises OSError."""
        await self._main.open(wait=False)
        await self._desk.start()
        await self._judge.start()
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.StreamReaderProtocol:
            reader = Reader()
            return asyncio.StreamReaderProtocol(reader, self._accept, loop=loop)

        try:
            server = await loop.create_server(
                accept, self._settings.relay_host, self._settings.relay_port
            )
            async with server:
                yield server.sockets[0].getsockname()[1]
        finally:
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await self._judge.stop()
            await self._desk.stop()
            await self._main.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Reader)
        task = asyncio.create_task(self._client(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _client(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        keep_alive(writer)
        try:
            if len(self._clients) > MOST_CLIENTS:
                raise Refused("sorry, too many clients already", "53300")
            await self._served(reader, writer)
        except Refused as exc:
            _last_word(writer, exc.told)
        except (TooLong, Malformed) as exc:
            _last_word(writer, failure(str(exc), "08P01", severity="FATAL"))
        except (OSError, EOFError, TimeoutError):
            pass  # gone, or never said a word
        except Exception as exc:
            # writing to a client that has gone is no OSError of uvloop's
            if not writer.is_closing():
                log.exception("session_broke", error=str(exc))
                told = failure("something broke on our side", "XX000", severity="FATAL")
                _last_word(writer, told)
        finally:
            await _closed(writer)

    async def _served(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(STARTUP_SECONDS):
            startup = await knock(reader, writer, self._tls)
        if startup.code == wire.CANCEL:
            await self._cancel(startup)
            return
        server = await self._connected()
        try:
            async with asyncio.timeout(STARTUP_SECONDS):
                entered = await enter((reader, writer), server, startup)
            if entered is None:
                return
            await self._admit(entered.login)
            line = Line(
                (reader, writer),
                server,
                reported=entered.reported,
                may_be_cold=self._judge.may_be_cold,
            )
            teller = Teller(line, entered.login, self._judge, self._stream)
            self._sessions[entered.key] = teller
            try:
                await line.tell(entered.told)
                await _both(reader, line, teller)
            finally:
                del self._sessions[entered.key]
                await teller.close()
        finally:
            await _closed(server[1])

    async def _admit(self, login: str) -> None:
        try:
            await self._judge.tenant_of(login)
        except NoDoor:
            raise Refused(
                f"{login} is no login of a tenant; connect to the database itself", "28000"
            ) from None
        except Unavailable as exc:
            raise Refused(exc.detail, "57P03") from None

    async def _connected(self) -> Streams:
        """To the first host that answers. Raises Refused."""
        for host, port in self._hosts:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(host, port, limit=CHUNK)
            except (OSError, TimeoutError):
                continue
            keep_alive(writer)
            return reader, writer
        raise Refused("the database can't be reached; try again", "57P03")

    async def _cancel(self, startup: Startup) -> None:
        """As the client wishes: here, or else in the server."""
        teller = self._sessions.get(startup.key)
        if teller is not None and teller.is_answering:
            teller.cancel()
            return
        reader, writer = await self._connected()
        writer.write(startup.raw)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await reader.read()  # it closes without a word
        finally:
            await _closed(writer)

    async def _stream(self, question: Question, feed: Feed) -> None:
        try:
            await self._desk.stream(question, feed)
        except (psycopg.Error, PoolTimeout):
            raise Unavailable("The database can't be reached; try again.") from None


async def _both(reader: Reader, line: Line, teller: Teller) -> None:
    """Until one side ends."""
    asking = asyncio.create_task(Session(line, teller).run())
    telling = asyncio.create_task(line.listen())

    def gone() -> None:
        if teller.is_answering:
            asking.cancel()

    reader.on_end = gone
    try:
        await asyncio.wait({asking, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (asking, telling):
            task.cancel()
        ends = await asyncio.gather(asking, telling, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


def _last_word(writer: asyncio.StreamWriter, told: bytes) -> None:
    """To a client that may have gone meanwhile."""
    if not writer.is_closing():
        writer.write(told)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Send what is left, for a moment, and close."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    writer.transport.abort()


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Ask the kernel to notice who is gone."""
    plug: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in KEEPALIVE.items():
            plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def hosts_of(url: str) -> list[tuple[str, int]]:
    """Where the server is. Raises CommandError."""
    found = conninfo_to_dict(psycopg.conninfo.make_conninfo(url))
    hosts = str(found.get("hostaddr") or found.get("host") or "localhost").split(",")
    ports = str(found.get("port") or DEFAULT_PORT).split(",")
    if any(host.startswith(("/", "@")) for host in hosts):
        raise CommandError(
            "DATABASE_URL leads to a Unix socket, where the server may ask for no password; "
            "give it a host"
        )
    return [
        (host or "localhost", int(ports[index if len(ports) > 1 else 0] or DEFAULT_PORT))
        for index, host in enumerate(hosts)
    ]


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What clients are encrypted with. Raises CommandError."""
    certificate, key = settings.relay_certificate, settings.relay_key
    if not certificate:
        return None
    for name, path in (("RELAY_CERTIFICATE", certificate), ("RELAY_KEY", key or certificate)):
        try:
            Path(path).read_bytes()
        except OSError as exc:
            raise CommandError(f"{name}: {path}: {exc.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # a password is asked for at the terminal otherwise
        context.load_cert_chain(certificate, key or None, password="")
    except ssl.SSLError as exc:
        raise CommandError(
            f"RELAY_CERTIFICATE, RELAY_KEY: {certificate} and {key or 'the same file'} are no "
            f"certificate and its key in PEM, without a password: {exc.reason or exc}"
        ) from None
    return context
