"""The bytes of a request: read with a limit, decompress with the same limit.

A body may say its length falsely and a small archive may unfold to gigabytes, so both are counted
while they grow, never after.
"""

import zlib

import zstandard
from litestar import Request

from app.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

STEP = 1 << 20


async def read_body(request: Request, limit: int) -> bytes:  # type: ignore[type-arg]
    """The decompressed body. Raises BodyTooLarge, MalformedBody or UnsupportedMediaType."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    raw = b"".join(parts)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    return decompress(raw, encoding, limit)


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
    out: list[bytes] = []
    size = 0
    rest = raw
    try:
        while rest:  # a gzip file may have several members
            inflater = zlib.decompressobj(wbits=31)
            while not inflater.eof:
                part = inflater.decompress(rest, STEP)
                rest = inflater.unconsumed_tail
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                out.append(part)
                if not part and not rest and not inflater.eof:
                    raise MalformedBody("Content-Encoding: the gzip data ends too early.")
            rest = inflater.unused_data
    except zlib.error as exc:
        raise MalformedBody(f"Content-Encoding: the body is no valid gzip ({exc}).") from None
    return b"".join(out)


def _unzstd(raw: bytes, limit: int) -> bytes:
    out: list[bytes] = []
    size = 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            raw, read_across_frames=True
        ) as reader:
            while part := reader.read(STEP):
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                out.append(part)
    except zstandard.ZstdError as exc:
        raise MalformedBody(f"Content-Encoding: the body is no valid zstd ({exc}).") from None
    return b"".join(out)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body, as sent or decompressed, is larger than {limit} bytes; send several requests.",
        limit_bytes=limit,
    )
