"""A chunk to sorted, verified Parquet, against COPY TO of the same chunk; bytes a reading; memory.

Measured is what keeps a chunk from being dropped: export, read back, compare with PostgreSQL's digest.
The limit writes the chunk to /dev/null inside the server, unsorted and unproven. Bytes are those of the
bundled data as one chunk, against the order-0 entropy of the deltas of its values (each value as whole
number of the smallest decimal that its series has).
"""

import asyncio
import itertools
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from app.archive.book import Export, export_get, owner_connection, rows
from app.archive.export import put, verify
from app.archive.lake import Lake
from app.ingest.batch import Batch
from app.settings import Settings
from bench.load import copy
from bench.options import Options
from bench.report import Report, begin, judge, median, rounded, versions
from bench.scenarios.storage import hypertable_bytes, real, walks
from bench.world import World, world
from jobs.archive import lake_writer

PIECE = 100_000
MOST_DECIMALS = 6
GOALS = {"rowstore": [">= 0.6"], "columnstore": [">= 0.6", ">= 0.9"]}
BIG_DAYS = 8.0
"""Days of readings in the chunk that memory is measured with: more bytes than memory may be used."""
EVER = 40_000
"""Days of a chunk that holds everything."""


def measure(options: Options) -> Report:
    """Speed in every storage the edition has, then bytes and memory."""
    report = begin("archive")
    with world(sensors=100) as w:
        report.versions = versions(w.versions())
        report.settings = w.settings()
        storages = ["rowstore", "columnstore"] if w.has_columnstore else ["rowstore"]
        for storage in storages:
            if options.wants(storage):
                load(w, walks(options), is_columnar=storage == "columnstore")
                found = asyncio.run(speed(w, options))
                report.results.append({"storage": storage} | found)
                options.say(f"{storage}: {found}")
                for goal in GOALS[storage]:
                    name = f"{storage}, ratio to COPY TO"
                    report.goals.append(judge(name, found["ratio"], goal))
        for storage in storages:
            if options.wants("memory"):
                big = msgspec.structs.replace(options, seconds=max(options.seconds, BIG_DAYS))
                batch = walks(big)
                load(w, batch, is_columnar=storage == "columnstore", days=EVER)
                chunk_mb, highest = hypertable_bytes(w) / 1e6, memory(w)
                report.results.append(
                    {
                        "storage": storage,
                        "readings": len(batch),
                        "chunk_mb": rounded(chunk_mb),
                        "peak_resident_mb": rounded(highest),
                    }
                )
                options.say(f"{storage}: {report.results[-1]}")
                name = f"{storage}, peak resident memory, MB"
                report.goals.append(judge(name, highest, "< 500"))
        if options.wants("bytes"):
            batch = real(options)
            load(w, batch, is_columnar=False, days=EVER)
            size = asyncio.run(parquet_bytes(w)) / len(batch)
            least = entropy_bytes(batch)
            report.results.append(
                {"readings": len(batch), "parquet": rounded(size), "entropy": rounded(least)}
            )
            report.goals.append(judge("bytes a reading to entropy", size / least, "<= 1.25"))
            report.notes.append(
                "values are kept as doubles that every Parquet reader understands, a file a month and"
                " tenant: docs/cold-tier.md says what the entropy would take"
            )
    return report


def load(w: World, batch: Batch, *, is_columnar: bool, days: int = 10) -> None:
    """One chunk, nothing archived."""
    w.sql(f"select set_chunk_time_interval('telemetry.reading', interval '{days} days')")
    w.sql("truncate archive.export cascade")
    w.sql("drop schema lake cascade")
    w.sql("create schema lake authorization headwater_owner")
    w.empty()
    places = np.arange(len(batch))
    pieces = [
        batch.where((places >= at) & (places < at + PIECE)).copy_readings()
        for at in range(0, len(batch), PIECE)
    ]
    copy(w, pieces, connections=1)
    if is_columnar:
        w.sql("select compress_chunk(c) from show_chunks('telemetry.reading') as c")
    w.sql("vacuum (analyze) telemetry.reading")


def settings_for(w: World, folder: str) -> Settings:
    """An archive in a folder."""
    url = w.runtime.superuser_url
    return Settings(database_url=url, owner_database_url=url, archive_url=f"file:{folder}")


async def claim(w: World, connection: Any) -> Export:
    """The chunk, however old it is."""
    ((begin_at, end_at),) = w.sql(
        "select c.range_start, c.range_end from timescaledb_information.chunks as c"
        " where c.hypertable_name = 'reading'"
    )
    ((number,),) = w.sql(
        "insert into archive.export (range_from, range_to, is_late) values (%s, %s, false)"
        " returning export_id",
        *(begin_at, end_at),
    )
    return await export_get(connection, export_id=number)


async def speed(w: World, options: Options) -> dict[str, Any]:
    """Readings a second of both, interleaved; every pass is verified, or the run fails."""
    ((count,),) = w.sql("select count(*) from telemetry.reading")
    limits, ratios, exports = [], [], []
    with tempfile.TemporaryDirectory(prefix="headwater-bench-lake-") as folder:
        settings = settings_for(w, folder)
        async with owner_connection(settings) as connection, lake_writer(settings) as lake:
            export = await claim(w, connection)
            before = server_copy(w)
            for _ in range(options.repeats):
                taken = await one_pass(connection, lake, export)
                after = server_copy(w)
                limit = (before + after) / 2
                limits.append(count / limit)
                exports.append(count / taken)
                ratios.append(limit / taken)
                before = after
                await rows(
                    connection, "export_starts_over", export_id=export.export_id, problem="bench"
                )
    return {
        "readings": count,
        "copy_to_per_second": rounded(median(limits)),
        "verified_per_second": rounded(median(exports)),
        "ratio": rounded(median(ratios)),
    }


def server_copy(w: World) -> float:
    """Seconds of COPY TO inside the server."""
    start = time.monotonic()
    w.sql("copy (select * from telemetry.reading) to '/dev/null' (format binary)")
    return time.monotonic() - start


async def one_pass(connection: Any, lake: Lake, export: Export) -> float:
    """Seconds of export and proof."""
    await lake.ask("delete from lake.main.reading")
    start = time.monotonic()
    here = await put(connection, lake, export)
    if not await verify(connection, lake, export, here):
        raise RuntimeError("the lake has other readings than the chunk")
    return time.monotonic() - start


def memory(w: World) -> float:
    """Peak of `headwater archive run` in a process of its own, in MB."""
    with tempfile.TemporaryDirectory(prefix="headwater-bench-lake-") as folder:
        settings = settings_for(w, folder)
        # not getrusage(): its peak counts what this process had when it forked
        script = (
            "import sys; from app.cli import main\n"
            "sys.argv = ['headwater', 'archive', 'run']\n"
            "main(); print([line.split()[1] for line in open('/proc/self/status')"
            " if line.startswith('VmHWM')][0])"
        )
        environment = {
            "PATH": "/usr/bin:/bin",
            "DATABASE_URL": settings.database_url,
            "OWNER_DATABASE_URL": settings.owner_database_url,
            "ARCHIVE_URL": settings.archive_url,
            "ARCHIVE_AFTER_DAYS": "4",
            "HEADWATER_STATE": folder,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout.split()[-1]) * 1024 / 1e6


async def parquet_bytes(w: World) -> int:
    """Bytes of the files that the lake makes of the chunk."""
    with tempfile.TemporaryDirectory(prefix="headwater-bench-lake-") as folder:
        settings = settings_for(w, folder)
        async with owner_connection(settings) as connection, lake_writer(settings) as lake:
            export = await claim(w, connection)
            await one_pass(connection, lake, export)
        return folder_bytes(Path(folder))


def folder_bytes(folder: Path) -> int:
    """All Parquet files."""
    return sum(file.stat().st_size for file in folder.rglob("*.parquet"))


def entropy_bytes(batch: Batch) -> float:
    """Order-0 entropy of the values' deltas, series by series, in bytes a reading."""
    order = np.lexsort((batch.ts, batch.metric_id, batch.sensor_id))
    sensor, metric = batch.sensor_id[order], batch.metric_id[order]
    value = batch.value[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (sensor[1:] != sensor[:-1]) | (metric[1:] != metric[:-1])
    starts = [*np.flatnonzero(is_first).tolist(), len(order)]
    bits = 0.0
    for begin_at, end_at in itertools.pairwise(starts):
        whole = scaled(value[begin_at:end_at])
        _, counts = np.unique(np.diff(whole), return_counts=True)
        share = counts / max(1, counts.sum())
        bits += float(-(share * np.log2(share)).sum()) * (end_at - begin_at)
    return bits / 8 / len(order)


def scaled(value: Any) -> Any:
    """As whole numbers of the smallest decimal."""
    for decimals in range(MOST_DECIMALS):
        whole = np.rint(value * 10**decimals)
        if np.array_equal(whole / 10**decimals, value):
            return whole
    return np.rint(value * math.pow(10, MOST_DECIMALS))
