"""Bytes a reading: row store, columnstore (Community edition only) and Parquet.

Three kinds of readings: the bundled real data, and seeded walks in hundredths every 30 seconds with and
without a clock that jitters by half a second. What comes back from the columnstore is compared bit for
bit with what went in. Indexes count.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from app.ingest.batch import Batch
from app.paths import ROOT
from app.replay.readers import read_file
from bench.generate import METRICS, walk
from bench.load import copy
from bench.options import Options
from bench.report import Report, begin, judge, rounded, versions
from bench.world import World, world

DATASETS = ROOT / "bench" / "datasets"
LOCAL_CLOCKS = {"gndblwq2021_cdmo_export.csv.gz": -6.0}
START = 1_750_000_000 // 86_400 * 86_400 * 1_000_000
SENSORS = 100
INTERVAL_US = 30_000_000
DAY_US = 86_400_000_000


def real(options: Options) -> Batch:
    """All bundled readings, in order of time."""
    series = [
        one
        for path in sorted(DATASETS.glob("*.gz"))
        for one in read_file(path, utc_offset=LOCAL_CLOCKS.get(path.name))
    ]
    sensors = {name: no for no, name in enumerate(dict.fromkeys(s.sensor for s in series), 1)}
    metrics = {name: no for no, name in enumerate(dict.fromkeys(s.metric for s in series), 1)}
    sizes = [len(one.ts) for one in series]
    return in_order(
        Batch(
            sensor_id=np.repeat([sensors[s.sensor] for s in series], sizes).astype(np.int64),
            metric_id=np.repeat([metrics[s.metric] for s in series], sizes).astype(np.int16),
            ts=np.concatenate([s.ts for s in series]),
            value=np.concatenate([s.values for s in series]),
            quality=np.full(sum(sizes), 2, dtype=np.int16),
        )
    )


def in_order(batch: Batch) -> Batch:
    """By time, sensor and metric, each once."""
    order = np.lexsort((batch.metric_id, batch.sensor_id, batch.ts))
    ts, sensor, metric = batch.ts[order], batch.sensor_id[order], batch.metric_id[order]
    is_new = np.ones(len(order), dtype=np.bool_)
    is_new[1:] = (ts[1:] != ts[:-1]) | (sensor[1:] != sensor[:-1]) | (metric[1:] != metric[:-1])
    chosen = order[is_new]
    return Batch(
        batch.sensor_id[chosen], batch.metric_id[chosen], batch.ts[chosen], batch.value[chosen],
        batch.quality[chosen],
    )  # fmt: skip


def walks(options: Options, *, jitter_us: int = 0) -> Batch:
    """A hundred sensors, five metrics; one day for each of `--seconds`."""
    ticks = max(100, int(options.seconds * DAY_US / INTERVAL_US))
    rng = np.random.default_rng(options.seed)
    value = walk(rng, ticks, [m for _ in range(SENSORS) for m in METRICS], violations=0)
    ts = START + np.arange(ticks, dtype=np.int64)[:, None] * INTERVAL_US
    ts = np.repeat(ts, SENSORS, axis=1)
    if jitter_us:
        ts = ts + rng.integers(-jitter_us, jitter_us, ts.shape) // 1_000 * 1_000
    streams = SENSORS * len(METRICS)
    return in_order(
        Batch(
            sensor_id=np.tile(np.repeat(np.arange(1, SENSORS + 1), len(METRICS)), ticks),
            metric_id=np.tile(np.arange(1, len(METRICS) + 1, dtype=np.int16), ticks * SENSORS),
            ts=np.repeat(ts.reshape(-1), len(METRICS)),
            value=value.reshape(-1),
            quality=np.full(ticks * streams, 2, dtype=np.int16),
        )
    )


KINDS: dict[str, Callable[[Options], Batch]] = {
    "real data": real,
    "walks": walks,
    "walks, jittered clocks": lambda options: walks(options, jitter_us=500_000),
}


def measure(options: Options) -> Report:
    """Each kind of readings."""
    report = begin("storage")
    with world(sensors=1) as w:
        report.versions = versions(w.versions())
        report.settings = w.settings()
        for name, make in KINDS.items():
            if options.wants(name):
                found = cell(w, make(options))
                report.results.append({"kind": name} | found)
                options.say(f"{name}: {found}")
                report.goals.append(
                    judge(f"{name}, columnstore, bytes a reading", found["columnstore"], "<= 1.5")
                )
        if not w.has_columnstore:
            report.notes.append("this edition offers no columnstore")
    return report


def cell(w: World, batch: Batch) -> dict[str, Any]:
    """Sizes of one kind."""
    n = len(batch)
    w.empty()
    places = np.arange(n)
    size = 100_000
    copy(
        w,
        [
            batch.where((places >= at) & (places < at + size)).copy_readings()
            for at in range(0, n, size)
        ],
        connections=1,
    )
    w.sql("vacuum (analyze) telemetry.reading")
    found: dict[str, Any] = {
        "readings": n,
        "chunks": len(w.sql("select show_chunks('telemetry.reading')")),
    }
    found["rowstore"] = rounded(hypertable_bytes(w) / n)
    before = w.digest()
    found["columnstore"] = None
    if w.has_columnstore:
        w.sql("select compress_chunk(c) from show_chunks('telemetry.reading') as c")
        found["columnstore"] = rounded(hypertable_bytes(w) / n)
        found["is_lossless"] = w.digest() == before
        if not found["is_lossless"]:
            found["columnstore"] = None
    found["parquet_zstd"] = rounded(parquet_bytes(batch) / n)
    return found


def hypertable_bytes(w: World) -> int:
    """Heap, indexes, TOAST and the columnstore's own tables."""
    ((size,),) = w.sql("select hypertable_size('telemetry.reading')")
    return int(size)


def parquet_bytes(batch: Batch) -> int:
    """One file, sorted by series, as the cold tier keeps it."""
    readings = {
        "sensor_id": batch.sensor_id,
        "metric_id": batch.metric_id,
        "ts": batch.ts.astype("datetime64[us]"),
        "value": batch.value,
        "quality": batch.quality,
    }
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "reading.parquet"
        connection.register("readings", readings)
        ordered = connection.sql("select * from readings order by sensor_id, metric_id, ts")
        ordered.write_parquet(str(path), compression="zstd")
        return path.stat().st_size
