"""A chunk on its way from PostgreSQL's order to the files' order: pieces in, batches in order out.

The readings wait in an unnamed temporary file, so memory stays bounded and a killed process leaves
nothing behind; only where each piece lies is remembered.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.archive.digest import Floats, Ints, Shorts
from app.archive.piece import Pieces

BATCH_ROWS = 250_000


class Batch(msgspec.Struct, frozen=True):
    """Readings in order of sensor, metric and time."""

    sensor: Ints
    metric: Shorts
    ts: Ints
    value: Floats
    quality: Shorts


class Index(msgspec.Struct, frozen=True):
    """Where pieces lie; one row a piece, by sensor, metric and first time."""

    sensor: Ints
    metric: Ints
    count: Ints
    first: Ints
    last: Ints
    block: Ints
    """Where the piece's block of three columns begins in the file."""
    block_rows: Ints
    offset: Ints
    """The piece's first row in its block."""

    def where(self, chosen: NDArray[Any]) -> "Index":
        """Some of them, in the order of `chosen`."""
        return Index(*(getattr(self, name)[chosen] for name in self.__struct_fields__))


class Spill:
    """The file; `close` it, or use it as a context."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="headwater-chunk-", buffering=0)  # noqa: SIM115
        self._size = 0
        self._lock = threading.Lock()
        self._parts: list[Index] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, pieces: Pieces) -> None:
        """Keep pieces; several threads may."""
        n = len(pieces.ts)
        with self._lock:
            block, self._size = self._size, self._size + 18 * n
        at = block
        for column in (pieces.ts, pieces.value, pieces.quality):
            os.pwrite(self._file.fileno(), column.data, at)
            at += column.nbytes
        same = np.ones(len(pieces.count), dtype=np.int64)
        starts = pieces.starts
        part = Index(
            pieces.sensor,
            pieces.metric.astype(np.int64),
            pieces.count,
            np.minimum.reduceat(pieces.ts, starts),
            np.maximum.reduceat(pieces.ts, starts),
            block * same,
            n * same,
            starts,
        )
        with self._lock:
            self._parts.append(part)

    def index(self) -> Index:
        """All pieces, in order."""
        names = Index.__struct_fields__
        joined = [
            np.concatenate([getattr(part, name) for part in self._parts] or [np.empty(0, np.int64)])
            for name in names
        ]
        found = Index(*joined)
        return found.where(np.lexsort((found.first, found.metric, found.sensor)))

    def batches(self, index: Index) -> Iterator[Batch]:
        """The readings of some pieces that `index` gave, in order, some at a time."""
        begin, size = 0, 0
        series = np.flatnonzero(_changes(index.sensor, index.metric)).tolist()
        is_first = set(series)
        latest = 0
        for number, count in enumerate(index.count.tolist()):
            # never cut where what follows may belong before what went out already
            is_free = number in is_first or int(index.first[number]) > latest
            if size >= BATCH_ROWS and is_free:
                yield self._batch(index.where(np.arange(begin, number)))
                begin, size = number, 0
            latest = max(0 if number in is_first else latest, int(index.last[number]))
            size += count
        if size:
            yield self._batch(index.where(np.arange(begin, len(index.count))))

    def _batch(self, index: Index) -> Batch:
        n = int(index.count.sum())
        ts, value = np.empty(n, np.int64), np.empty(n, np.float64)
        quality = np.empty(n, np.int16)
        at = 0
        # pieces that lie one after the other are read at once
        is_new = _changes(index.block, index.offset - np.cumsum(index.count) + index.count)
        starts = np.flatnonzero(is_new)
        sizes = np.add.reduceat(index.count, starts)
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            place, offset = int(index.block[start]), int(index.offset[start])
            rows = int(index.block_rows[start])
            for column, before in ((ts, 0), (value, 8 * rows), (quality, 16 * rows)):
                self._read(column[at : at + size], place + before + column.itemsize * offset)
            at += size
        sensor = np.repeat(index.sensor, index.count)
        metric = np.repeat(index.metric.astype(np.int16), index.count)
        series = np.flatnonzero(_changes(index.sensor, index.metric))
        if not _is_sorted(ts, (np.cumsum(index.count) - index.count)[series]):
            order = np.lexsort((ts, metric, sensor))
            ts, value, quality = ts[order], value[order], quality[order]
        return Batch(sensor, metric, ts, value, quality)

    def _read(self, into: NDArray[Any], at: int) -> None:
        view = into.data.cast("B")
        while view:
            got = os.preadv(self._file.fileno(), [view], at)
            if not got:
                raise OSError("the temporary file is shorter than what was written to it")
            view, at = view[got:], at + got


def _changes(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a row differs from the one before; the first one does."""
    found = np.ones(len(columns[0]), dtype=np.bool_)
    found[1:] = False
    for column in columns:
        found[1:] |= column[1:] != column[:-1]
    return found


def _is_sorted(ts: Ints, starts: Ints) -> bool:
    """Whether time goes up inside of every series."""
    is_up = np.ones(len(ts), dtype=np.bool_)
    is_up[1:] = ts[1:] > ts[:-1]
    is_up[starts] = True
    return bool(is_up.all())
