"""Decompression: what comes out is whole, and never more than the limit."""

import gzip
import time

import pytest
import zstandard

from app.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType
from app.ingest.body import decompress

LIMIT = 1 << 20
TEXT = b'{"sensor":"s1"}\n' * 5_000
ZSTD = zstandard.ZstdCompressor(write_content_size=False)


def packed(encoding: str, data: bytes = TEXT) -> bytes:
    return {"gzip": gzip.compress, "zstd": ZSTD.compress}[encoding](data)


def noise(size: int) -> bytes:
    """Text that does not compress well, so that a cut falls between blocks."""
    return "\n".join(str(hash((i, "x"))) for i in range(size // 20)).encode()


both = pytest.mark.parametrize("encoding", ["gzip", "zstd"])


@both
def test_round_trip(encoding: str) -> None:
    assert decompress(packed(encoding), encoding, LIMIT) == TEXT


@both
def test_several_members_are_one_body(encoding: str) -> None:
    assert (
        decompress(packed(encoding, b"one ") + packed(encoding, b"two"), encoding, LIMIT)
        == b"one two"
    )


@both
def test_a_body_of_exactly_the_limit_passes_and_one_more_byte_does_not(encoding: str) -> None:
    assert len(decompress(packed(encoding, b" " * LIMIT), encoding, LIMIT)) == LIMIT
    with pytest.raises(BodyTooLarge):
        decompress(packed(encoding, b" " * (LIMIT + 1)), encoding, LIMIT)


@both
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_body_is_refused_wherever_it_ends(encoding: str, keep: float) -> None:
    whole = packed(encoding, noise(400_000))
    with pytest.raises(MalformedBody, match="ends too early"):
        decompress(whole[: int(len(whole) * keep)], encoding, LIMIT)


@both
def test_garbage_is_refused(encoding: str) -> None:
    with pytest.raises(MalformedBody, match=f"no valid {encoding}"):
        decompress(b"no archive at all", encoding, LIMIT)


@both
def test_garbage_after_the_end_is_refused(encoding: str) -> None:
    with pytest.raises(MalformedBody):
        decompress(packed(encoding) + b"more", encoding, LIMIT)


def test_a_damaged_gzip_is_refused() -> None:
    damaged = bytearray(packed("gzip"))
    damaged[-6] ^= 1
    with pytest.raises(MalformedBody, match="no valid gzip"):
        decompress(bytes(damaged), "gzip", LIMIT)


@both
def test_a_bomb_is_stopped_at_the_limit(encoding: str) -> None:
    bomb = packed(encoding, b"\0" * 200_000_000)
    began = time.process_time()
    with pytest.raises(BodyTooLarge):
        decompress(bomb, encoding, LIMIT)
    assert time.process_time() - began < 1


@both
def test_a_million_empty_members_are_refused_at_once(encoding: str) -> None:
    empty = packed(encoding, b"")
    began = time.process_time()
    with pytest.raises(MalformedBody, match="more than 1000 compressed members"):
        decompress(empty * (4_000_000 // len(empty)), encoding, LIMIT)
    assert time.process_time() - began < 1


def test_a_huge_zstd_window_is_refused() -> None:
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(29 - 10) << 3]) + b"\x01\x00\x00"  # 512 MiB
    with pytest.raises(MalformedBody, match="memory"):
        decompress(frame, "zstd", LIMIT)


def test_identity_and_unknown_encodings() -> None:
    assert decompress(TEXT, "identity", LIMIT) == TEXT
    with pytest.raises(UnsupportedMediaType, match="send gzip, zstd or none"):
        decompress(TEXT, "br", LIMIT)
    with pytest.raises(UnsupportedMediaType):
        decompress(TEXT, "gzip, gzip", LIMIT)
