"""A client of PostgreSQL's protocol without a library: to send what no library sends."""

import base64
import hashlib
import hmac
import os
import socket
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from app.relay import wire
from app.relay.wire import head, message


class Client:
    """Logged in once it is made."""

    def __init__(self, url: str) -> None:
        parts: dict[str, Any] = conninfo_to_dict(url)
        self.socket = socket.create_connection((parts["host"], int(parts["port"])), timeout=30)
        words = ["user", parts["user"], "database", parts["dbname"], ""]
        body = wire.PROTOCOL.to_bytes(4, "big") + "\0".join(words).encode() + b"\0"
        self.socket.sendall((len(body) + 4).to_bytes(4, "big") + body)
        self._prove(parts["password"])
        self.key = next(body for kind, body in self.until(wire.READY) if kind == wire.BACKEND_KEY)

    def send(self, *messages: tuple[int, bytes]) -> None:
        self.socket.sendall(b"".join(message(kind, body) for kind, body in messages))

    def receive(self) -> tuple[int, bytes]:
        kind, size = head(self._read(5))
        return kind, self._read(size)

    def until(self, *kinds: int) -> list[tuple[int, bytes]]:
        """Everything up to one of these, which is the last."""
        found = [self.receive()]
        while found[-1][0] not in kinds:
            found.append(self.receive())
        return found

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _prove(self, password: str) -> None:
        """SCRAM-SHA-256, RFC 5802."""
        self.receive()
        first = "n=,r=" + base64.b64encode(os.urandom(18)).decode()
        begin = ("n,," + first).encode()
        self._answer(b"SCRAM-SHA-256\0" + len(begin).to_bytes(4, "big") + begin)
        said = self.receive()[1][4:].decode()
        nonce, salt, rounds = (part[2:] for part in said.split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", password.encode(), base64.b64decode(salt), int(rounds)
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c=biws,r={nonce}"
        signature = hmac.digest(
            hashlib.sha256(key).digest(), f"{first},{said},{last}".encode(), "sha256"
        )
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._answer(f"{last},p={base64.b64encode(proof).decode()}".encode())

    def _answer(self, body: bytes) -> None:
        self.socket.sendall(message(wire.PASSWORD, body))
