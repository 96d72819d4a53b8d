"""A WebSocket subscriber that costs next to nothing: one blocking socket, text frames, no threads."""

import base64
import contextlib
import os
import select
import socket
import struct
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

    def _take(self, count: int) -> bytes:
        while len(self._got) < count:
            self._read()
        taken, self._got = self._got[:count], self._got[count:]
        return taken

    def next(self) -> dict[str, Any]:
        """The next message. Raises LoadError or TimeoutError."""
        while True:
            first, second = self._take(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", self._take(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._take(8))
            data = self._take(length)
            kind = first & 15
            if kind == TEXT:
                message: dict[str, Any] = msgspec.json.decode(data)
                return message
            if kind == PING:
                self._pong(data)
            elif kind == CLOSE:
                raise LoadError(f"the server closed the WebSocket: {data!r}")

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
        """Throw away what has arrived."""
        self._got = b""
        self._read()
        self._got = b""


@contextlib.contextmanager
def audience(port: int, key: str, count: int) -> Iterator[None]:
    """So many subscribers, in a process of their own, that read and forget."""
    ready, stop = FORK.Event(), FORK.Event()
    process = FORK.Process(target=_listen, args=(port, key, count, ready, stop))
    process.start()
    try:
        if not ready.wait(60):
            raise LoadError("the subscribers could not connect")
        yield
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
            subscriber.drain()
