"""A piece of a chunk as PostgreSQL sends it (sql/archive/piece.sql): proven, then put in order.

A column's values arrive side by side. They are held against PostgreSQL's own count, times, sum and
SHA-256 of the very bytes it read before anything is done with them.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from app.archive.digest import Floats, Ints, Shorts
from app.db.array import POSTGRES_EPOCH

Sent = Sequence[tuple[Any, ...]]

SHORT = 2**16
NEAR = 1e-9
"""Sums may differ by the order in which they were added up, by this share of the values' sizes."""


class ArchiveError(Exception):
    """What arrived is not what was there: nothing is dropped."""


class Pieces(msgspec.Struct, frozen=True):
    """Readings as they arrived: `count[i]` of a series stand together, then those of the next."""

    sensor: Ints
    metric: Shorts
    count: Ints
    ts: Ints
    """Microseconds since 1970."""
    value: Floats
    quality: Shorts

    @property
    def starts(self) -> Ints:
        """Where each series begins."""
        return np.cumsum(self.count) - self.count


def of_series(sent: Sent, usual: int) -> Pieces:
    """A row a series, and flags other than the usual one. Raises ArchiveError."""
    sensor, metric, count, first, last, total, *blobs, wanted = zip(*sent, strict=True)
    _prove(blobs, wanted)
    ts, value = _times(blobs[0]), _values(blobs[1])
    pieces = Pieces(
        np.array(sensor, dtype=np.int64),
        np.array(metric, dtype=np.int16),
        np.array(count, dtype=np.int64),
        ts,
        value,
        np.full(len(ts), usual, dtype=np.int16),
    )
    _agree(pieces, pieces.starts, count, first, last, total)
    starts = pieces.starts.tolist()
    for begin, n, flag_ts, flag in zip(starts, count, blobs[2], blobs[3], strict=True):
        if flag:
            mine = ts[begin : begin + n]
            order = np.argsort(mine, kind="stable")
            place = order[np.searchsorted(mine, _times([flag_ts]), sorter=order)]
            pieces.quality[begin + place] = np.frombuffer(flag, ">i2")
    return pieces


def of_pages(sent: Sent) -> Pieces:
    """A piece of a row store, put in order of its series. Raises ArchiveError."""
    count, first, last, total, *blobs, wanted = zip(*sent, strict=True)
    _prove(blobs, wanted)
    # sensor * 2^20 + metric * 2^4 + quality, where the metric may be less than nothing
    key = np.frombuffer(b"".join(blobs[0]), ">i8").astype(np.int64) + (1 << 19)
    quality = (key & 0xF).astype(np.int16)
    encoded = pa.array(key >> 4).dictionary_encode()
    keys = encoded.dictionary.to_numpy()
    number = encoded.indices.to_numpy()
    # short numbers are sorted by radix
    order = np.argsort(number.astype(np.uint16 if len(keys) <= SHORT else np.uint32), kind="stable")
    pieces = Pieces(
        keys >> 16,
        ((keys & 0xFFFF) - (1 << 15)).astype(np.int16),
        np.bincount(number, minlength=len(keys)),
        _times(blobs[1])[order],
        _values(blobs[2])[order],
        quality[order],
    )
    _agree(pieces, np.zeros(1, np.int64), count, first, last, total)
    return pieces


def _times(blobs: Sequence[bytes]) -> Ints:
    return np.frombuffer(b"".join(blobs), ">i8").astype(np.int64) + POSTGRES_EPOCH


def _values(blobs: Sequence[bytes]) -> Floats:
    return np.frombuffer(b"".join(blobs), ">f8").astype(np.float64)


def _prove(blobs: Sequence[Sequence[bytes]], wanted: Sequence[bytes]) -> None:
    for *columns, digest in zip(*blobs, wanted, strict=True):
        hashes = b"".join(sha256(column).digest() for column in columns)
        if sha256(hashes).digest() != digest:
            raise ArchiveError("what PostgreSQL sent changed on the way (SHA-256)")


def _agree(pieces: Pieces, starts: Ints, *wanted: Sequence[Any]) -> None:
    """Whether what stands from each start on has the count, times and sum that PostgreSQL found."""
    count, first, last, total = wanted
    n = len(pieces.ts)
    found = np.add.reduceat(pieces.value, starts)
    size = np.add.reduceat(np.abs(pieces.value), starts)
    if not (
        n == len(pieces.value) == len(pieces.quality)
        and np.array_equal(np.diff(starts, append=n), count)
        and np.array_equal(np.minimum.reduceat(pieces.ts, starts), first)
        and np.array_equal(np.maximum.reduceat(pieces.ts, starts), last)
        and bool(np.all(np.abs(found - np.array(total)) <= NEAR * size))
    ):
        raise ArchiveError("count, times or sum of what arrived are not what PostgreSQL found")
