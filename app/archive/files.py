"""Parquet files of the lake: each of one month and tenant, sorted by sensor, metric and time.

Columns are plain, for any reader: `value` is a double, bit for bit what was measured. Times are
delta-packed, all else goes through dictionaries, then zstd. A file is on the disk, or in the bucket,
before the lake hears of it; one it never hears of is an orphan, which a later run removes. A file's name
ends with the SHA-256 of its bytes: any other byte is noticed, in statistics that no reading shows, too.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import AsyncConnection

from app.archive.book import Export, rows
from app.archive.chunk import read_chunk
from app.archive.digest import SensorDigest
from app.archive.lake import Lake, LakeError
from app.archive.spill import Batch, Index, Spill
from app.errors import CommandError

SCHEMA = pa.schema(
    [
        pa.field("sensor_id", pa.int64(), nullable=False),
        pa.field("metric_id", pa.int16(), nullable=False),
        pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("quality", pa.int16(), nullable=False),
        pa.field("tenant_id", pa.int32(), nullable=False),
        pa.field("export_id", pa.int64(), nullable=False),
    ]
)
ROW_GROUP_ROWS = 125_000
LEVEL = 3
DICTIONARY_BYTES = 2 << 20
"""Beyond it a row group's values are written out: full mantissas have no use for a dictionary."""


WRITERS = 2
SPLIT_ROWS = 1_000_000
"""From here on a tenant's readings are written by two threads, into two files."""

NAMED_SHA256 = re.compile(r"-([0-9a-f]{64})\.parquet$")

Span = tuple[datetime, datetime]


class Part(msgspec.Struct, frozen=True):
    """What goes into one file."""

    stem: str
    """Its name without its SHA-256."""
    tenant_id: int
    index: Index
    first: int
    """Times, in microseconds since 1970: from `first` up to, not including, `end`."""
    end: int


async def put_files(
    connection: AsyncConnection, lake: Lake, export: Export
) -> dict[int, SensorDigest]:
    """An export's chunk into the lake, in one snapshot of it; the chunk's digest.

    Raises LakeError, ArchiveError, psycopg.Error.
    """
    with Spill() as spill:
        here = await read_chunk(connection, lake.server, export, spill.add)
        tenants = np.array(await rows(connection, "sensor_tenants"), dtype=np.int64).reshape(-1, 2)
        parts = _parts(export, spill.index(), tenants)
        waiting = list(parts)
        names: list[str] = []

        async def work() -> None:
            while waiting:
                part = waiting.pop()
                names.append(await asyncio.to_thread(_put, lake, spill, part, export.export_id))

        workers = [asyncio.create_task(work()) for _ in range(WRITERS)]
        try:
            await asyncio.gather(*workers)
        finally:
            waiting.clear()
            await asyncio.gather(*workers, return_exceptions=True)
    if names:
        await asyncio.to_thread(lake.register, names)
    return here


def _parts(export: Export, index: Index, tenants: np.ndarray) -> list[Part]:
    """The files to be written, small ones first."""
    place = np.searchsorted(tenants[:, 0], index.sensor)
    place = np.minimum(place, max(0, len(tenants) - 1))
    is_known = tenants[place, 0] == index.sensor if len(tenants) else np.zeros(0, np.bool_)
    tenant = np.where(is_known, tenants[place, 1], 0) if len(tenants) else np.zeros_like(place)
    order = np.argsort(tenant, kind="stable")
    parts = []
    for group in np.split(order, np.flatnonzero(np.diff(tenant[order])) + 1):
        if not len(group):
            continue
        tenant_id = int(tenant[group[0]])
        for begin, end in _months(export.range_from, export.range_to):
            folder = f"main/reading/year={begin.year}/month={begin.month}/tenant_id={tenant_id}"
            lower, upper = (int(moment.timestamp() * 1e6) for moment in (begin, end))
            there = group[(index.last[group] >= lower) & (index.first[group] < upper)]
            for some in _halves(index, there):
                stem = f"{folder}/export-{export.export_id}-{uuid4().hex}"
                parts.append(Part(stem, tenant_id, index.where(some), lower, upper))
    return sorted(parts, key=lambda part: int(part.index.count.sum()))


def _halves(index: Index, group: np.ndarray) -> Iterator[np.ndarray]:
    """Much in two, between sensors, as equal as that allows."""
    if not len(group):
        return
    sums = np.cumsum(index.count[group])
    middle = 0
    if sums[-1] >= SPLIT_ROWS:
        sensor = index.sensor[group][np.searchsorted(sums, sums[-1] / 2)]
        middle = int(np.searchsorted(index.sensor[group], sensor))
    if middle:
        yield group[:middle]
    yield group[middle:]


def _months(begin: datetime, end: datetime) -> Iterator[Span]:
    """[begin, end) by months of UTC."""
    at, end = begin.astimezone(UTC), end.astimezone(UTC)
    while at < end:
        following = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
        yield at, min(following, end)
        at = following


def _put(lake: Lake, spill: Spill, part: Part, export_id: int) -> str:
    """Write a part where the lake's files are; its name there. Raises LakeError."""
    batches = (_cut(batch, part) for batch in spill.batches(part.index))
    try:
        if lake.place.folder:
            path = Path(lake.place.folder, f"{part.stem}.parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            sha256 = write_file(path, batches, tenant_id=part.tenant_id, export_id=export_id)
            name = f"{part.stem}-{sha256}.parquet"
            path.rename(Path(lake.place.folder, name))
            _keep_names(path.parent)
            return name
        with tempfile.TemporaryDirectory(prefix="headwater-file-") as folder:
            path = Path(folder) / "part.parquet"
            sha256 = write_file(path, batches, tenant_id=part.tenant_id, export_id=export_id)
            name = f"{part.stem}-{sha256}.parquet"
            lake.place.upload(path, name)
            return name
    except OSError as exc:
        raise LakeError(f"a file can't be written: {exc.strerror}") from None
    except CommandError as exc:
        raise LakeError(str(exc)) from None


def _cut(batch: Batch, part: Part) -> Batch:
    """Without what belongs to another month."""
    is_mine = (batch.ts >= part.first) & (batch.ts < part.end)
    if is_mine.all():
        return batch
    return Batch(*(getattr(batch, name)[is_mine] for name in batch.__struct_fields__))


def write_file(path: Path, batches: Iterable[Batch], *, tenant_id: int, export_id: int) -> str:
    """One file, whose bytes are on the disk when this returns; their SHA-256."""
    with path.open("w+b") as file:
        with pq.ParquetWriter(
            file,
            SCHEMA,
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=[name for name in SCHEMA.names if name != "ts"],
            column_encoding={"ts": "DELTA_BINARY_PACKED"},
            dictionary_pagesize_limit=DICTIONARY_BYTES,
            store_schema=False,
        ) as writer:
            for batch in batches:
                n = len(batch.ts)
                if not n:
                    continue
                columns = [
                    pa.array(batch.sensor),
                    pa.array(batch.metric),
                    pa.array(batch.ts).cast(SCHEMA.field("ts").type),
                    pa.array(batch.value),
                    pa.array(batch.quality),
                    pa.array(np.full(n, tenant_id, dtype=np.int32)),
                    pa.array(np.full(n, export_id, dtype=np.int64)),
                ]
                table = pa.Table.from_arrays(columns, schema=SCHEMA)
                groups = -(-n // ROW_GROUP_ROWS)
                writer.write_table(table, row_group_size=-(-n // groups))
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep_names(folder: Path) -> None:
    """Force a folder's names to the disk."""
    line = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(line)
    finally:
        os.close(line)
