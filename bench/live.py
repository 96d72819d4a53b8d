"""A WebSocket subscriber that costs next to nothing: one blocking socket, text frames, no threads."""

import base64
import contextlib
import os
import select
import socket
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from typing import Any

import msgspec

from bench.client import HOST, LoadError
from bench.load import FORK

TEXT, CLOSE, PING = 1, 8, 9


class Subscriber:
    """GET /api/v1/live with an operator's key; ready once `hello` is here."""

    def __init__(self, port: int, key: str) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        nonce = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /api/v1/live HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._got:
            self._read()
        head, _, self._got = self._got.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise LoadError(f"no WebSocket: {head[:300]!r}")
        if self.next()["kind"] != "hello":
            raise LoadError("the first message was no hello")

    def _read(self) -> None:
        part = self._socket.recv(1 << 16)
        if not part:
            raise LoadError("the server closed the WebSocket")
        self._got += part

    def _frame(self) -> tuple[int, bytes] | None:
        """The next frame's kind and data; None: it is not all here yet."""
        if len(self._got) < 2:
            return None
        first, length, begin = self._got[0], self._got[1] & 127, 2
        if length >= 126:
            begin = 4 if length == 126 else 10
            if len(self._got) < begin:
                return None
            length = int.from_bytes(self._got[2:begin])
        if len(self._got) < begin + length:
            return None
        data = self._got[begin : begin + length]
        self._got = self._got[begin + length :]
        return first & 15, data

    def _text(self) -> bytes | None:
        """The next text of what is here, pings before it answered. Raises LoadError at the end."""
        while (frame := self._frame()) is not None:
            kind, data = frame
            if kind == TEXT:
                return data
            if kind == PING:
                self._pong(data)
            elif kind == CLOSE:
                raise LoadError(f"the server closed the WebSocket: {data!r}")
        return None

    def next(self) -> dict[str, Any]:
        """The next message. Raises LoadError or TimeoutError."""
        while (text := self._text()) is None:
            self._read()
        message: dict[str, Any] = msgspec.json.decode(text)
        return message

    def _pong(self, data: bytes) -> None:
        # a client masks; a mask of zeros changes nothing
        self._socket.sendall(bytes([0x8A, 0x80 | len(data)]) + bytes(4) + data)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Throw away the messages that have arrived, but answer pings. Raises LoadError."""
        self._read()
        while self._text() is not None:
            pass


@contextlib.contextmanager
def audience(port: int, key: str, count: int) -> Iterator[None]:
    """So many subscribers, in a process of their own, that read and forget.

    One that the server finds too slow and hangs up on comes again, as a browser does.

    Raises LoadError where they did not last as long as the block.
    """
    ready, stop = FORK.Event(), FORK.Event()
    process = FORK.Process(target=_listen, args=(port, key, count, ready, stop))
    process.start()
    try:
        if not ready.wait(60):
            raise LoadError("the subscribers could not connect")
        yield
        if not process.is_alive():
            raise LoadError("the subscribers were gone before the end")
    finally:
        stop.set()
        process.join(10)
        if process.is_alive():
            process.kill()


def _listen(port: int, key: str, count: int, ready: Event, stop: Event) -> None:
    subscribers = [Subscriber(port, key) for _ in range(count)]
    ready.set()
    while not stop.is_set():
        for subscriber in select.select(subscribers, [], [], 0.5)[0]:
            try:
                subscriber.drain()
            except LoadError:
                subscriber.close()
                subscribers[subscribers.index(subscriber)] = Subscriber(port, key)
