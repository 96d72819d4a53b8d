"""The begin of a connection: what the client wants, and PostgreSQL's own word that it may.

Nobody is let in here: the server asks for the password and checks it. The relay only refuses a login
that the server lets in without one, because it is the relay's address that the server trusts then, and
logins whose rows are not told here. Who logged in is what the server says, never what the client does.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import msgspec

from app.relay import wire
from app.relay.wire import failure, head, message

STARTUP_SECONDS = 60
LONGEST_STARTUP = 10_000
LONGEST_ANSWER = 65_536
"""Bytes of a message while somebody logs in."""
LOGIN = "session_authorization"
"""What the server reports as the user of the session."""
_OK, _SASL_FINAL = 0, 12


class Refused(Exception):
    """No connection; the client is told why."""

    def __init__(self, text: str, state: str = "08P01") -> None:
        super().__init__(text)
        self.told = failure(text, state, severity="FATAL")


class Reader(asyncio.StreamReader):
    """Counts what came, and tells when the client has gone."""

    def __init__(self) -> None:
        super().__init__(limit=65_536)
        self.byte_count = 0
        self.on_end: Callable[[], None] | None = None

    def feed_data(self, data: Any) -> None:
        """As the base class."""
        self.byte_count += len(data)
        super().feed_data(data)

    def feed_eof(self) -> None:
        """As the base class."""
        super().feed_eof()
        if self.on_end is not None:
            self.on_end()


class Startup(msgspec.Struct, frozen=True, kw_only=True):
    """The first message of a client."""

    raw: bytes
    code: int
    key: bytes
    """Of a request to cancel: of which session."""


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """A login that the server took."""

    reported: dict[str, str]
    key: bytes
    """With which a client may cancel."""
    told: bytes
    """What the client has not been told yet."""

    @property
    def login(self) -> str:
        """Who it is."""
        return self.reported.get(LOGIN, "")


async def knock(
    reader: Reader, writer: asyncio.StreamWriter, tls: ssl.SSLContext | None
) -> Startup:
    """The client's startup message, after encryption where it asks for that. Raises Refused."""
    is_encrypted = False
    used = 0
    while True:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if not 8 <= size <= LONGEST_STARTUP:
            raise Refused("this is no startup message of PostgreSQL's protocol")
        body = await reader.readexactly(size - 4)
        used += size
        code = int.from_bytes(body[:4], "big")
        if code == wire.SSL and tls is not None and not is_encrypted:
            # what came before encryption was sent by who knows whom
            if reader.byte_count != used:
                raise Refused("data came before the encryption that was asked for")
            writer.write(b"S")
            await writer.start_tls(tls)
            is_encrypted = True
            used = reader.byte_count
        elif code in (wire.SSL, wire.GSS):
            writer.write(b"N")
            await writer.drain()
        else:
            return Startup(raw=size.to_bytes(4, "big") + body, code=code, key=body[4:])


async def enter(
    client: tuple[Reader, asyncio.StreamWriter],
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    startup: Startup,
) -> Entered | None:
    """Carry the login to and fro; None: the server refused it. Raises Refused."""
    (reader, writer), (from_server, to_server) = client, server
    to_server.write(startup.raw)
    reported: dict[str, str] = {}
    key = b""
    kept: list[bytes] = []
    is_asked = False
    while True:
        kind, body = await _message(from_server)
        if kind == wire.AUTHENTICATION and not is_asked:
            if int.from_bytes(body[:4], "big") == _OK:
                raise Refused("the server asks for no password from here; it must", "28000")
            is_asked = True
        if kind == wire.PARAMETER:
            name, value = wire.read_setting(body)
            reported[name] = value
        if kind == wire.BACKEND_KEY:
            key = body
        kept.append(message(kind, body))
        if kind == wire.READY:
            return Entered(reported=reported, key=key, told=b"".join(kept))
        is_question = kind == wire.AUTHENTICATION and (
            int.from_bytes(body[:4], "big") not in (_OK, _SASL_FINAL)
        )
        if is_question or kind == wire.ERROR:
            writer.write(b"".join(kept))
            await writer.drain()
            kept.clear()
        if kind == wire.ERROR:
            return None
        if is_question:
            answer, said = await _message(reader)
            if answer != wire.PASSWORD:
                raise Refused("a password was expected")
            to_server.write(message(answer, said))


async def _message(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, size = head(await reader.readexactly(5))
    if not 0 <= size <= LONGEST_ANSWER:
        raise Refused("a message is too long")
    return kind, await reader.readexactly(size)
