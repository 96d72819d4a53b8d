"""Reads a chunk out of PostgreSQL, in pieces of bounded size, by two connections at once.

PostgreSQL sends the values of a column side by side, with its own count, times, sum and SHA-256 of the
very bytes it read (sql/archive/piece.sql). Every piece is held against them before anything is done with
it, so the digest of what arrived is the digest of what the chunk has.
"""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from psycopg import AsyncConnection

from app.archive.book import SQL, Export, rows
from app.archive.digest import Columns, Floats, Ints, SensorDigest, Shorts, Tally

PIECE_ROWS = 200_000
"""Readings that one statement brings, about: 18 bytes each, several times over."""
STREAMS = 2
SHORT = 2**16
PAGE_ROWS = 136
"""Readings that fit a page of the row store."""
LAST_PAGE = 2**32 - 2
EPOCH_2000_US = 946_684_800_000_000
NEAR = 1e-9
"""Sums may differ by the order in which they were added up, by this share of the values' sizes."""

PAGES, SENSORS = "export_piece_of_pages", "export_pieces_of_sensors"
Task = tuple[str, dict[str, object]]


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


async def read_chunk(
    connection: AsyncConnection,
    server: str,
    export: Export,
    take: Callable[[Pieces], None] | None = None,
) -> dict[int, SensorDigest]:
    """The digest of an export's chunk; {} where there is none. Raises ArchiveError.

    `server` is where to connect; `take` gets all pieces, in no order, from several threads at once.
    """
    found = await rows(connection, "export_chunk", **export.range)
    if not found:
        return {}
    ((chunk, is_columnar, page_count),) = found
    if is_columnar:
        tasks = _by_sensors(export, await rows(connection, "export_sensors", **export.range))
    else:
        tasks = _by_pages(chunk, page_count)
    tally = Tally()

    decode = _series if is_columnar else _pages

    def work(sent: list[tuple[Any, ...]]) -> None:
        if not sent:
            return
        pieces = decode(sent)
        metric = np.repeat(pieces.metric, pieces.count)
        readings = Columns(pieces.ts, metric, pieces.value, pieces.quality)
        tally.add(pieces.sensor, pieces.starts, readings)
        if take is not None:
            take(pieces)

    async def stream() -> None:
        async with await AsyncConnection.connect(server, autocommit=True) as line:
            await line.execute(SQL["export_session"])
            cursor = line.cursor(binary=True)
            working = asyncio.create_task(asyncio.sleep(0))
            try:
                while tasks:
                    name, arguments = tasks.pop(0)
                    await cursor.execute(SQL[name], arguments)
                    sent = await cursor.fetchall()
                    await working  # one piece is worked on while the next one arrives
                    working = asyncio.create_task(asyncio.to_thread(work, sent))
            finally:
                await working

    streams = [asyncio.create_task(stream()) for _ in range(min(STREAMS, len(tasks)))]
    try:
        await asyncio.gather(*streams)
    finally:
        for one in streams:
            one.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return tally.digest()


def _by_pages(chunk: str, page_count: int) -> list[Task]:
    """One pass over a row store; the last piece is open, for the table may grow."""
    width = PIECE_ROWS // PAGE_ROWS
    starts = range(0, max(page_count, 1), width)
    return [
        (
            PAGES,
            {"chunk": chunk, "first": at, "last": LAST_PAGE if at == starts[-1] else at + width},
        )
        for at in starts
    ]


def _by_sensors(export: Export, sensors: list[tuple[Any, ...]]) -> list[Task]:
    """Neighbouring sensors together; a sensor that has too much by itself in spans of time."""
    tasks: list[Task] = []
    group: list[int] = []
    size = 0
    for sensor_id, count in [*sensors, (None, PIECE_ROWS)]:
        if group and size + count > PIECE_ROWS:
            spans = -(-size // PIECE_ROWS)
            width = (export.range_to - export.range_from) / spans
            for number in range(spans):
                begin = export.range_from + number * width
                end = export.range_to if number == spans - 1 else begin + width
                span = {"range_from": begin, "range_to": end, "first": group[0], "last": group[-1]}
                tasks.append((SENSORS, span))
            group, size = [], 0
        group.append(sensor_id)
        size += count
    return tasks


def _series(sent: list[tuple[Any, ...]]) -> Pieces:
    """Pieces that came series by series. Raises ArchiveError."""
    sensor, metric, count, first, last, total, *blobs, wanted = zip(*sent, strict=True)
    _prove(blobs, wanted)
    ts, value, quality = (b"".join(column) for column in blobs)
    pieces = Pieces(
        np.array(sensor, dtype=np.int64),
        np.array(metric, dtype=np.int16),
        np.array(count, dtype=np.int64),
        np.frombuffer(ts, ">i8").astype(np.int64) + EPOCH_2000_US,
        np.frombuffer(value, ">f8").astype(np.float64),
        np.frombuffer(quality, ">i2").astype(np.int16),
    )
    _agree(pieces, pieces.starts, count, first, last, total)
    return pieces


def _pages(sent: list[tuple[Any, ...]]) -> Pieces:
    """A piece of a row store, put in order of its series. Raises ArchiveError."""
    count, first, last, total, *blobs, wanted = zip(*sent, strict=True)
    _prove(blobs, wanted)
    sensor, metric, ts, value, quality = (b"".join(column) for column in blobs)
    key = np.frombuffer(sensor, ">i8").astype(np.int64) << 16
    key |= np.frombuffer(metric, ">u2")
    encoded = pa.array(key).dictionary_encode()
    keys = encoded.dictionary.to_numpy()
    number = encoded.indices.to_numpy()
    # short numbers are sorted by radix
    order = np.argsort(number.astype(np.uint16 if len(keys) <= SHORT else np.uint32), kind="stable")
    pieces = Pieces(
        keys >> 16,
        (keys & 0xFFFF).astype(np.uint16).view(np.int16),
        np.bincount(number, minlength=len(keys)),
        (np.frombuffer(ts, ">i8").astype(np.int64) + EPOCH_2000_US)[order],
        np.frombuffer(value, ">f8").astype(np.float64)[order],
        np.frombuffer(quality, ">i2").astype(np.int16)[order],
    )
    _agree(pieces, np.zeros(1, np.int64), count, first, last, total)
    return pieces


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
