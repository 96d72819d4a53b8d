"""Readings ready to be written, and the bytes in which they go.

PostgreSQL's binary COPY format is fixed-width for these columns, so a whole batch is one numpy array
of big-endian records. Field order is that of the column lists in COPY_READING and COPY_CANDIDATE.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.db.array import POSTGRES_EPOCH
from app.ingest.band import BandTable

COPY_READING = (
    "copy telemetry.reading (sensor_id, ts, value, metric_id, quality) from stdin (format binary)"
)
COPY_STAGED = "copy pg_temp.staged (sensor_id, ts, value, metric_id, no) from stdin (format binary)"
COPY_CANDIDATE = "copy alert.candidate (sensor_id, ts, value, metric_id) from stdin (format binary)"

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_CANDIDATE = [
    ("fields", ">i2"),
    ("l1", ">i4"), ("sensor_id", ">i8"),
    ("l2", ">i4"), ("ts", ">i8"),
    ("l3", ">i4"), ("value", ">f8"),
    ("l4", ">i4"), ("metric_id", ">i2"),
]  # fmt: skip
_READING = [*_CANDIDATE, ("l5", ">i4"), ("quality", ">i2")]
_STAGED = [*_CANDIDATE, ("l5", ">i4"), ("no", ">i4")]


def _template(layout: list[tuple[str, str]]) -> NDArray[np.void]:
    """One record with its field count and lengths filled in."""
    record = np.zeros(1, dtype=np.dtype(layout))
    record["fields"] = sum(name.startswith("l") for name, _ in layout)
    for (name, _), (_, kind) in zip(layout[1::2], layout[2::2], strict=True):
        record[name] = int(kind[-1])
    return record


T = TypeVar("T", bound=np.generic)
MANY = 8
"""Arrays that are put together by their bytes."""
Order = NDArray[np.intp] | slice
"""Positions in the order wanted."""

CANDIDATE, READING, STAGED = _template(_CANDIDATE), _template(_READING), _template(_STAGED)


@dataclass
class Batch:
    """n readings; every array has shape (n,)."""

    sensor_id: NDArray[np.int64]
    metric_id: NDArray[np.int16]
    ts: NDArray[np.int64]
    """Microseconds since 1970-01-01 UTC."""
    value: NDArray[np.float64]
    """In the metric's stored unit."""
    quality: NDArray[np.int16]
    band: NDArray[np.int32] | None = None
    """The line of `bands` that is each reading's sensor's."""
    bands: BandTable | None = None
    group: NDArray[np.int32] | None = None
    """Which group of shards each reading goes to; None: there is one place."""
    newest: NDArray[np.intp] | None = None
    """Positions of the newest reading of each datastream; None: not known."""

    def __len__(self) -> int:
        return len(self.ts)

    def where(self, mask: NDArray[np.bool_] | NDArray[np.intp]) -> "Batch":
        """The readings under the mask, or at these positions."""
        return Batch(
            self.sensor_id[mask], self.metric_id[mask], self.ts[mask], self.value[mask],
            self.quality[mask], None if self.band is None else self.band[mask], self.bands,
            None if self.group is None else self.group[mask],
        )  # fmt: skip

    def copy_readings(self) -> memoryview:
        """For COPY_READING, about in the order of the table's key: its index grows at one end."""
        order = slice(None) if is_ascending(self.ts) else _by_time(self.ts)
        buffer, records = self._filled(READING, order)
        records["quality"] = self.quality[order]
        return buffer

    def copy_staged(self) -> memoryview:
        """For COPY_STAGED; `no` is the position in this batch."""
        buffer, records = self._filled(STAGED)
        records["no"] = np.arange(len(self))
        return buffer

    def copy_candidates(self) -> memoryview:
        """For COPY_CANDIDATE."""
        return self._filled(CANDIDATE)[0]

    def _filled(
        self, template: NDArray[np.void], order: Order = slice(None)
    ) -> tuple[memoryview, NDArray[np.void]]:
        """The bytes of a COPY and, in them, the records."""
        begin, end = len(HEADER), len(HEADER) + len(self) * template.itemsize
        buffer = np.empty(end + len(TRAILER), dtype=np.uint8)
        buffer.data[:begin], buffer.data[end:] = HEADER, TRAILER
        buffer[begin:end].reshape(-1, template.itemsize)[:] = template.view(np.uint8)
        records = buffer[begin:end].view(template.dtype)
        records["sensor_id"] = self.sensor_id[order]
        records["ts"] = self.ts[order] - POSTGRES_EPOCH
        records["value"] = self.value[order]
        records["metric_id"] = self.metric_id[order]
        return buffer.data, records


def is_ascending(ts: NDArray[np.int64]) -> bool:
    """Whether no time comes before the one that precedes it."""
    return not np.count_nonzero(ts[1:] < ts[:-1])


def _by_time(ts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions in order of time, to the 16 highest bits of their span: sorting so few is cheap."""
    since = ts - ts.min()
    shift = max(0, int(since.max()).bit_length() - 16)
    return np.argsort((since >> shift).astype(np.uint16), kind="stable")


def join(batches: list[Batch]) -> Batch:
    """One batch of all, in order."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        _chained([b.sensor_id for b in batches]),
        _chained([b.metric_id for b in batches]),
        _chained([b.ts for b in batches]),
        _chained([b.value for b in batches]),
        _chained([b.quality for b in batches]),
        *_joined_bands(batches),
        _joined_groups(batches),
        _joined_newest(batches),
    )


def _chained(arrays: list[NDArray[T]]) -> NDArray[T]:
    """As np.concatenate, which takes six times as long for a hundred short ones."""
    if len(arrays) < MANY:
        return np.concatenate(arrays)
    return np.frombuffer(b"".join(arrays), dtype=arrays[0].dtype)  # type: ignore[arg-type]


def _joined_groups(batches: list[Batch]) -> NDArray[np.int32] | None:
    groups = [batch.group for batch in batches if batch.group is not None]
    return _chained(groups) if groups else None


def _joined_newest(batches: list[Batch]) -> NDArray[np.intp] | None:
    """Positions in the joined batch; a datastream may come from several."""
    parts = [batch.newest for batch in batches if batch.newest is not None]
    if len(parts) < len(batches):
        return None
    sizes = np.array([len(batch) for batch in batches])
    begin: NDArray[np.intp] = np.cumsum(sizes) - sizes
    return _chained(parts) + np.repeat(begin, [len(part) for part in parts])


def _joined_bands(batches: list[Batch]) -> tuple[NDArray[np.int32] | None, BandTable | None]:
    """The common bands; none where the batches were resolved before and after a change of rules."""
    bands = batches[0].bands
    lines = [b.band for b in batches if b.band is not None and b.bands is bands]
    return (_chained(lines), bands) if len(lines) == len(batches) else (None, None)
