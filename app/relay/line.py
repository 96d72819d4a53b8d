"""A client and its server, connected: every byte passes, and the relay may ask questions of its own.

What the server sends is cut into messages, so that it is known which answer belongs to what; those to the
relay's own questions are kept from the client. Only whole messages are passed on (but long rows), so
that the relay can write its own between them. Both sides are slowed down by the slower one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from app.errors import Problem
from app.query.cold import Span
from app.relay import wire
from app.relay.wire import failure, head, message

CHUNK = 262_144
LONGEST = 16 * 2**20
"""Bytes of a message that is held as a whole."""
HEAD = 5

ENDS = {
    wire.PARSE: (wire.PARSED,),
    wire.BIND: (wire.BOUND,),
    wire.CLOSE: (wire.CLOSED,),
    wire.DESCRIBE: (wire.ROW_DESCRIPTION, wire.NO_DATA),
    wire.EXECUTE: (wire.COMPLETE, wire.EMPTY, wire.SUSPENDED),
    wire.SYNC: (wire.READY,),
    wire.QUERY: (wire.READY,),
    wire.FUNCTION: (wire.READY,),
}
"""What ends the answer to a message; what is not here has none."""
BARRIERS = (wire.SYNC, wire.QUERY, wire.FUNCTION)
"""Messages whose answer goes on after an error."""
ANYTIME = (wire.NOTICE, wire.NOTIFICATION, wire.PARAMETER)

Heard = list[tuple[int, bytes]]


class Sent(msgspec.Struct):
    """A message to the server whose answer is not complete."""

    kind: int
    done: Callable[[], None] | None = None
    """Called once it succeeded."""
    own: Heard | None = None
    """Where the answer goes instead of to the client."""
    within: Span | None = None
    """No reading between these times may be cold when the answer ends."""


class TooLong(Exception):
    """A message that nobody holds as a whole."""


class Line:
    """Two connections. `reported` and `status` are what the server said last."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        reported: dict[str, str],
        may_be_cold: Callable[[Span | None], Awaitable[bool]],
    ) -> None:
        self._client, self._to_client = client
        self._server, self._to_server = server
        self._may_be_cold = may_be_cold
        self.reported = reported
        self._pending: deque[Sent] = deque()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._through = 0
        self._is_muted = False
        self._is_copying = False
        self.is_skipping = False
        """The server ignores everything up to the next Sync."""
        self.status = wire.IDLE
        """Of the transaction."""

    # from the client

    async def next(self) -> tuple[int, bytes] | None:
        """The client's next message that is not just passed on; None: it is gone. Raises TooLong."""
        while True:
            try:
                begin = await self._client.readexactly(HEAD)
                kind, size = head(begin)
                if size < 0 or (size > LONGEST and kind != wire.COPY_DATA):
                    raise TooLong(f"a message of {size + 4:,} bytes is not taken")
                if kind == wire.COPY_DATA:
                    await self._pass(begin, size)
                    continue
                return kind, await self._client.readexactly(size)
            except (asyncio.IncompleteReadError, OSError):
                return None

    async def _pass(self, begin: bytes, size: int) -> None:
        self._to_server.write(begin)
        while size:
            part = await self._client.readexactly(min(size, CHUNK))
            size -= len(part)
            self._to_server.write(part)
            await self._to_server.drain()

    # to the server

    async def send(
        self,
        kind: int,
        body: bytes,
        *,
        done: Callable[[], None] | None = None,
        own: Heard | None = None,
        within: Span | None = None,
    ) -> None:
        """A message, and what becomes of its answer."""
        if kind in (wire.COPY_DONE, wire.COPY_FAIL):
            self._is_copying = False
        is_ignored = self.is_skipping
        if kind == wire.SYNC:
            is_ignored = self._is_copying
            self.is_skipping = False
        if kind in ENDS and not is_ignored:
            self._pending.append(Sent(kind=kind, done=done, own=own, within=within))
            self._quiet.clear()
        self._to_server.write(message(kind, body))
        await self._to_server.drain()

    async def ask(self, *messages: tuple[int, bytes], sync: bool) -> Heard:
        """The server's answers to a question of the relay's own, between the client's."""
        heard: Heard = []
        for kind, body in messages:
            await self.send(kind, body, own=heard)
        if sync:
            await self.send(wire.SYNC, b"", own=heard)
        await self.settled()
        return heard

    async def settled(self) -> None:
        """Until the server has answered everything."""
        if self._pending:
            await self.send(wire.FLUSH, b"")
        await self._quiet.wait()

    # to the client

    async def tell(self, data: bytes) -> None:
        """Whole messages, while the server has nothing to say."""
        self._to_client.write(data)
        await self._to_client.drain()

    # from the server

    async def listen(self) -> None:
        """Pass on what the server sends, until it ends."""
        rest = b""
        while chunk := await self._server.read(CHUNK):
            data = rest + chunk if rest else chunk
            rest = await self._cut(data)
            await self._to_client.drain()

    async def _cut(self, data: bytes) -> bytes:
        """Pass on what is whole; the rest."""
        end = len(data)
        begin = 0  # of what is not passed on yet
        at = min(self._through, end)
        self._through -= at
        while end - at >= HEAD:
            kind, size = head(data, at)
            after = at + HEAD + size
            if kind == wire.DATA_ROW and not self._is_kept():
                if after > end and size > CHUNK:
                    self._through = after - end
                    at = end
                    break
            elif after <= end:
                is_passed = await self._hear(kind, data[at + HEAD : after])
                if not is_passed:
                    self._to_client.write(data[begin:at])
                    begin = after
            if after > end:
                break
            at = after
        self._to_client.write(data[begin:at])
        return data[at:]

    def _is_kept(self) -> bool:
        """Whether rows go to nobody, or to the relay."""
        return self._is_muted or bool(self._pending and self._pending[0].own is not None)

    async def _hear(self, kind: int, body: bytes) -> bool:
        """Take note of a message; whether the client gets it."""
        if kind == wire.PARAMETER:
            name, value = wire.read_setting(body)
            self.reported[name] = value
        if kind == wire.READY:
            self.status = body
        if kind in ANYTIME or not self._pending:
            return True
        front = self._pending[0]
        if front.own is not None:
            front.own.append((kind, body))
        is_passed = front.own is None and (kind == wire.READY or not self._is_muted)
        if kind == wire.READY:
            self._is_muted = False
        if kind in (wire.ERROR, wire.COPY_IN):
            self._skip(kind, front)
        elif kind == wire.COMPLETE and front.within is not None:
            is_passed = await self._is_whole(front.within) and is_passed
        if kind in ENDS[front.kind] and self._pending and self._pending[0] is front:
            self._pending.popleft()
            if front.done is not None:
                front.done()
        if not self._pending:
            self._quiet.set()
        return is_passed

    def _skip(self, kind: int, front: Sent) -> None:
        """Expect no answers that will not come."""
        self._is_copying = kind == wire.COPY_IN
        if self._is_copying and front.kind == wire.EXECUTE:
            # the server ignores a Sync while it is copying
            self._pending = deque(sent for sent in self._pending if sent.kind != wire.SYNC)
        elif kind == wire.ERROR and front.kind not in BARRIERS:
            while self._pending and self._pending[0].kind != wire.SYNC:
                self._pending.popleft()
            self.is_skipping = not self._pending

    async def _is_whole(self, within: Span) -> bool:
        """Tell the client where readings became cold while the server read; whether none did."""
        try:
            if not await self._may_be_cold(within):
                return True
            told = failure("readings were archived while the query read them; ask again", "40001")
        except Problem as exc:
            told = failure(exc.detail, "57P03")
        self._is_muted = True
        self._to_client.write(told)
        return False
