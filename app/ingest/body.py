"""The bytes of a request: read with a limit, decompress with the same limit.

A body may say its length falsely and a small archive may unfold to gigabytes, so both are counted
while they grow, never after.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard
from litestar import Request
from litestar.types import Receive

from app.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

MOST_MEMBERS = 1_000


async def read_body(request: Request, limit: int) -> bytes:  # type: ignore[type-arg]
    """The decompressed body. Raises BodyTooLarge, MalformedBody or UnsupportedMediaType."""
    headers = request.headers
    said = headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        raise _unread(limit)
    raw = await _received(request.receive, limit)
    encoding = headers.get("content-encoding")
    return raw if encoding is None else decompress(raw, encoding.strip().lower(), limit)


async def _received(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise MalformedBody("The body ends too early: the connection was closed.")
        part = event["body"]
        size += len(part)
        if size > limit:
            raise _unread(limit)
        parts.append(part)
        if not event["more_body"]:
            return b"".join(parts)


def decompress(raw: bytes, encoding: str, limit: int) -> bytes:
    """Undo the content encoding; at most `limit` bytes come out."""
    if encoding in ("", "identity"):
        return raw
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(raw, limit)
    if encoding == "zstd":
        return _unzstd(raw, limit)
    raise UnsupportedMediaType(
        f"Content-Encoding: {encoding[:40]!r} is not supported; send gzip, zstd or none."
    )


def _gunzip(raw: bytes, limit: int) -> bytes:
    try:
        # deflate unfolds to 1032 times its size at most
        return _inflate(raw, limit, lambda: zlib.decompressobj(wbits=31), step=1 << 14)
    except zlib.error as exc:
        raise MalformedBody(f"Content-Encoding: the body is no valid gzip ({exc}).") from None


def _unzstd(raw: bytes, limit: int) -> bytes:
    context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        # four bytes of zstd can stand for 128 KiB
        return _inflate(raw, limit, context.decompressobj, step=1 << 10)
    except zstandard.ZstdError as exc:
        raise MalformedBody(f"Content-Encoding: the body is no valid zstd ({exc}).") from None


class _Inflater(Protocol):
    """What zlib and zstandard agree on."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _inflate(raw: bytes, limit: int, make: Callable[[], _Inflater], *, step: int) -> bytes:
    """Decompress member by member, `step` bytes at a time so that no step can unfold far."""
    out: list[bytes] = []
    size = at = members = 0
    while at < len(raw):
        members += 1
        if members > MOST_MEMBERS:  # each costs time, however empty it is
            raise MalformedBody(
                f"Content-Encoding: more than {MOST_MEMBERS} compressed members; send one."
            )
        inflater = make()
        while not inflater.eof:
            piece = raw[at : at + step]
            if not piece:
                raise MalformedBody("Content-Encoding: the compressed data ends too early.")
            part = inflater.decompress(piece)
            at += len(piece)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            out.append(part)
        at -= len(inflater.unused_data)
    return b"".join(out)


def _unread(limit: int) -> BodyTooLarge:
    """The rest of the body is never read, so the connection ends here, which the client must know."""
    problem = _too_large(limit)
    problem.headers["Connection"] = "close"
    return problem


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body, as sent or decompressed, is larger than {limit} bytes; send several requests.",
        limit_bytes=limit,
    )
