"""A year of history by `headwater import`, against COPY of the same readings without an index.

Everything the command does counts: start-up, reading the Parquet file, resolving, sorting, the ledger,
the newest values. The limit is one connection, binary COPY in order of time, batches of 10,000, into a
hypertable like telemetry.reading but without any index. Once, the import is killed with -9 as soon as
some of it is stored, and run again: the table must hold each reading once.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet

from app.ingest.batch import Batch
from bench.client import LoadError
from bench.generate import METRICS, Readings, uid, walk
from bench.load import Verifier
from bench.options import Options
from bench.report import Report, begin, judge, median, rounded, versions
from bench.world import World, world

SENSORS = 100
DAYS = 365
RATE = 500_000
PART = 10_000
COPY_BARE = "copy bench.bare (sensor_id, ts, value, metric_id, quality) from stdin (format binary)"


def measure(options: Options) -> Report:
    """The limit and the import in turn."""
    report = begin("backfill")
    with world(sensors=SENSORS) as w, tempfile.TemporaryDirectory() as folder:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"sensors": SENSORS, "metrics": len(METRICS), "days": DAYS}
        readings = year(options)
        file = Path(folder) / "year.parquet"
        write_parquet(readings, file)
        found = cell(w, readings, file, options)
        report.results.append(found)
        options.say(str(found))
        report.goals = [
            judge("headwater import, ratio to un-indexed COPY", found["ratio"], ">= 0.6"),
            judge("killed and run again, readings lost or doubled", found["wrong"], "<= 0"),
        ]
    return report


def year(options: Options) -> Readings:
    """A year's readings at even steps, as many as fill a stretch."""
    streams = [metric for _ in range(SENSORS) for metric in METRICS]
    ticks = max(DAYS, int(options.seconds * RATE) // len(streams))
    end = int(time.time()) // 86_400 * 86_400
    ts = (end - (np.arange(ticks, dtype=np.int64)[::-1] + 1) * (DAYS * 86_400 // ticks)) * 1_000_000
    value = walk(np.random.default_rng(options.seed), ticks, streams)
    return Readings(
        sensor=np.tile(np.repeat(np.arange(SENSORS), len(METRICS)), ticks),
        metric=np.tile(np.arange(len(METRICS)), ticks * SENSORS),
        ts=np.repeat(ts, len(streams)),
        value=value.reshape(-1),
    )


def write_parquet(readings: Readings, path: Path) -> None:
    """The long form, in order of time."""
    words = {
        "sensor": (readings.sensor, [uid(n) for n in range(SENSORS)]),
        "metric": (readings.metric, [m.code for m in METRICS]),
    }
    columns = {
        name: pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(distinct))
        for name, (numbers, distinct) in words.items()
    }
    columns["ts"] = pa.array(readings.ts, pa.timestamp("us", "UTC"))
    columns["value"] = pa.array(readings.value)
    pyarrow.parquet.write_table(pa.table(columns), path)


def cell(w: World, readings: Readings, file: Path, options: Options) -> dict[str, Any]:
    """Interleaved, the limit before and after each import; then the kill."""
    n = len(readings)
    batch = w.batch(readings)
    verifier = Verifier(w, n)
    limits, times, wal = [limit(w, batch)], [], []
    for _ in range(options.repeats):
        forget(w)
        before = wal_position(w)
        started = time.monotonic()
        start_import(w, file).check()
        times.append(time.monotonic() - started)
        wal.append((wal_position(w) - before) / n)
        verifier.check("import")
        limits.append(limit(w, batch))
    forget(w)
    killed = start_import(w, file)
    killed.kill_on_its_way(w)
    ((partly,),) = w.sql("select count(*) from telemetry.reading")
    start_import(w, file).check()
    start_import(w, file).check()
    wrong = verifier.wrong()
    ratios = [
        (a + b) / 2 / seconds for seconds, a, b in zip(times, limits, limits[1:], strict=False)
    ]
    return {
        "readings": n,
        "ratio": rounded(median(ratios)),
        "ratio_lowest": rounded(min(ratios)),
        "ratio_highest": rounded(max(ratios)),
        "readings_per_second": rounded(n / median(times)),
        "limit_readings_per_second": rounded(n / median(limits)),
        "wal_bytes_a_reading": rounded(median(wal)),
        "stored_when_killed": partly,
        "wrong": wrong,
        "repeats": len(times),
    }


def forget(w: World) -> None:
    """No readings, and no memory of files imported."""
    w.empty()
    w.sql("truncate telemetry.import_file cascade")


def limit(w: World, batch: Batch) -> float:
    """Seconds of COPY into a fresh hypertable without an index."""
    w.sql("create schema if not exists bench")
    w.sql("drop table if exists bench.bare")
    w.sql(
        "create table bench.bare (like telemetry.reading including defaults including constraints)"
    )
    w.sql(
        "select create_hypertable('bench.bare', by_range('ts', d.time_interval),"
        " create_default_indexes => false) from timescaledb_information.dimensions as d"
        " where d.hypertable_name = 'reading'"
    )
    w.sql("checkpoint")
    parts = [
        Batch(
            batch.sensor_id[at : at + PART], batch.metric_id[at : at + PART],
            batch.ts[at : at + PART], batch.value[at : at + PART], batch.quality[at : at + PART],
        ).copy_readings()
        for at in range(0, len(batch), PART)
    ]  # fmt: skip
    with (
        psycopg.connect(w.runtime.superuser_url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        started = time.monotonic()
        for part in parts:
            with cursor.copy(COPY_BARE) as stream:
                stream.write(part)
        return time.monotonic() - started


def wal_position(w: World) -> int:
    """Bytes of write-ahead log so far."""
    ((position,),) = w.sql("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    return int(position)


class Running:
    """An import under way."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def check(self) -> None:
        """Wait for its end. Raises LoadError where it failed."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise LoadError(f"headwater import: {output[-1000:]}")

    def kill_on_its_way(self, w: World) -> None:
        """Kill it with -9 once something is stored, and wait until the server has noticed."""
        while self._process.poll() is None:
            if w.sql("select 1 from telemetry.reading limit 1"):
                self._process.kill()
                break
            time.sleep(0.01)
        self._process.communicate()
        time.sleep(1.0)


def start_import(w: World, file: Path) -> Running:
    """`headwater import` of the file."""
    environment = {
        **os.environ,
        **w.runtime.environment(),
        "HEADWATER_STATE": str(w.runtime.folder.path),
    }
    return Running(
        subprocess.Popen(
            [
                sys.executable, "-c", "from app.cli import main; main()", "import", str(file),
                "--tenant", "bench", "--leave-rollups",  # the limit has none
            ],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
    )  # fmt: skip
