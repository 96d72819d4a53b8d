"""How should a value be stored? Bytes, exactness and speed of three encodings in the columnstore.

`python -m bench.decisions.value_encoding.run [--seconds N]` on a Community server (HEADWATER_PG_BINDIR);
writes result.json beside itself. Each encoding is a hypertable of its own, else like telemetry.reading:

- float8: as it is today; TimescaleDB compresses it with Gorilla's XOR.
- numeric: PostgreSQL's decimal.
- scaled: `scaled` / 10 ^ `decimals`, the decimals chosen per series; what that does not give back bit for
  bit (full mantissas, negative zero) stands in `exact` instead.
"""

# ruff: noqa: S608 - the names of tables and columns are the constants below

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray

from app.db.array import POSTGRES_EPOCH
from app.ingest.batch import HEADER, TRAILER, Batch
from bench.client import LoadError
from bench.options import Options
from bench.report import median, rounded
from bench.scenarios.storage import real, walks
from bench.world import World, world

RESULT = Path(__file__).with_name("result.json")
REPEATS = 5
MOST_DECIMALS = 6
Fields = list[tuple[NDArray[Any], str]]
# widest first, or padding costs the row store eight bytes
TABLES = {
    "float8": "value float8 not null, metric_id smallint not null, quality smallint not null",
    "numeric": "value numeric not null, metric_id smallint not null, quality smallint not null",
    "scaled": "scaled bigint, metric_id smallint not null, quality smallint not null,"
    " decimals smallint not null, exact float8",
}
POWERS = "('{1,10,100,1000,10000,100000,1000000}'::float8[])[r.decimals + 1]"
VALUE = {
    "float8": "r.value",
    "numeric": "r.value::float8",
    "scaled": f"coalesce(r.scaled / {POWERS}, r.exact)",
}


def scale(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int16], NDArray[np.bool_]]:
    """scaled, decimals and where `exact` is needed; the decimals that suit most of each series."""
    n = len(batch)
    scaled = np.zeros(n, dtype=np.int64)
    decimals = np.zeros(n, dtype=np.int16)
    is_exact = np.ones(n, dtype=np.bool_)
    series = batch.sensor_id * 100 + batch.metric_id
    order = np.argsort(series, kind="stable")
    _, starts = np.unique(series[order], return_index=True)
    for at in np.split(order, starts[1:]):
        value = batch.value[at]
        best = None
        for digits in range(MOST_DECIMALS + 1):
            whole = np.rint(value * 10.0**digits)
            is_good = (
                (np.abs(whole) < 2.0**53)
                & (whole / 10.0**digits == value)
                & ~((value == 0) & np.signbit(value))
            )
            if best is None or is_good.sum() > best[0].sum():
                best = (is_good, whole, digits)
        assert best is not None
        is_good, whole, digits = best
        scaled[at[is_good]] = whole[is_good].astype(np.int64)
        decimals[at] = digits
        is_exact[at] = ~is_good
    return scaled, decimals, is_exact


def converted(options: Options) -> Batch:
    """Walks in hundredths of degF, stored in degC: full mantissas."""
    batch = walks(options)
    batch.value = (batch.value - 32) / 1.8
    return batch


KINDS: dict[str, tuple[Callable[[Options], Batch], str]] = {
    "real data, a chunk a day": (real, "1 day"),
    "real data, a chunk in ten years": (real, "3650 days"),
    "walks in hundredths": (walks, "1 day"),
    "walks, jittered clocks": (lambda options: walks(options, jitter_us=500_000), "1 day"),
    "walks, converted units": (converted, "1 day"),
}


def buffer(encoding: str, batch: Batch) -> bytes:
    """One binary COPY buffer in the table's column order."""
    n = len(batch)
    begin: Fields = [(batch.sensor_id, ">i8"), (batch.ts - POSTGRES_EPOCH, ">i8")]
    small: Fields = [(batch.metric_id, ">i2"), (batch.quality, ">i2")]
    if encoding == "float8":
        return HEADER + _records([*begin, (batch.value, ">f8"), *small]) + TRAILER
    scaled, decimals, is_exact = scale(batch)
    null = (np.zeros(n), "")
    parts = [
        _records([(array[mask], kind) for array, kind in fields])
        # a null has no bytes, so rows with and without one differ in width
        for mask, fields in (
            (~is_exact, [*begin, (scaled, ">i8"), *small, (decimals, ">i2"), null]),
            (is_exact, [*begin, null, *small, (decimals, ">i2"), (batch.value, ">f8")]),
        )
    ]
    return HEADER + b"".join(parts) + TRAILER


def _records(fields: Fields) -> bytes:
    layout = [("fields", ">i2")]
    for number, (_, kind) in enumerate(fields):
        layout.append((f"l{number}", ">i4"))
        if kind:
            layout.append((f"v{number}", kind))
    records = np.zeros(len(fields[0][0]), dtype=np.dtype(layout))
    records["fields"] = len(fields)
    for number, (array, kind) in enumerate(fields):
        records[f"l{number}"] = int(kind[-1]) if kind else -1
        if kind:
            records[f"v{number}"] = array
    return records.tobytes()


def make_table(w: World, encoding: str, interval: str) -> None:
    """An empty hypertable of the encoding."""
    w.sql(f"drop table if exists encoding.{encoding}")
    w.sql(
        "create table encoding."
        + encoding
        + " (sensor_id bigint not null, ts timestamptz not null, "
        + TABLES[encoding]
        + ")"
    )
    w.sql(
        f"select create_hypertable('encoding.{encoding}', by_range('ts', interval '{interval}'),"
        " create_default_indexes => false)"
    )
    w.sql(f"create unique index on encoding.{encoding} (ts, sensor_id, metric_id)")
    w.sql(
        f"alter table encoding.{encoding} set (timescaledb.compress,"
        " timescaledb.compress_segmentby = 'sensor_id, metric_id',"
        " timescaledb.compress_orderby = 'ts')"
    )


def load(w: World, encoding: str, batch: Batch, buffers: list[bytes]) -> float:
    """Fill an empty table; the seconds COPY took."""
    with psycopg.connect(w.runtime.superuser_url, autocommit=True) as connection:
        if encoding == "numeric":
            connection.execute(
                "insert into encoding.numeric select sensor_id, ts, value::text::numeric,"
                " metric_id, quality from encoding.float8"
            )
            return 0.0
        started = time.perf_counter()
        statement: LiteralString = f"copy encoding.{encoding} from stdin (format binary)"
        for data in buffers:
            with connection.cursor().copy(statement) as stream:
                stream.write(data)
        return time.perf_counter() - started


def digest(w: World, encoding: str) -> tuple[Any, ...]:
    """Count and a sum over the bits of all values, each bound to its key."""
    return w.sql(
        "select count(*), sum(hashfloat8extended(v.value, 1)::numeric"
        " * (hashint8extended(v.sensor_id, 2) % 1000003)), sum(('x' ||"
        " encode(float8send(v.value), 'hex'))::bit(64)::bigint::numeric)"
        f" from (select r.sensor_id, {VALUE[encoding]} as value from encoding.{encoding} as r) as v"
    )[0]


def scan(w: World, encoding: str) -> float:
    """Seconds of an aggregate over all of it."""
    value = VALUE[encoding]
    with psycopg.connect(w.runtime.superuser_url, autocommit=True) as connection:
        started = time.perf_counter()
        connection.execute(
            f"select r.sensor_id, r.metric_id, sum({value}), min({value}), max({value})"
            f" from encoding.{encoding} as r group by 1, 2"
        ).fetchall()
        return time.perf_counter() - started


def cell(w: World, batch: Batch, interval: str) -> dict[str, Any]:
    """One kind of readings in each encoding."""
    n = len(batch)
    places = np.arange(n)
    parts = [batch.where((places >= at) & (places < at + 10_000)) for at in range(0, n, 10_000)]
    buffers = {e: [buffer(e, part) for part in parts] for e in ("float8", "scaled")}
    found: dict[str, Any] = {"readings": n, "escaped": rounded(float(scale(batch)[2].mean()))}
    times: dict[str, list[float]] = {"float8": [], "scaled": []}
    for _ in range(REPEATS):
        for encoding, seconds in times.items():
            make_table(w, encoding, interval)
            seconds.append(load(w, encoding, batch, buffers[encoding]))
    found["copy_scaled_to_float8"] = rounded(median(times["float8"]) / median(times["scaled"]))
    make_table(w, "numeric", interval)
    load(w, "numeric", batch, [])
    expected = digest(w, "float8")
    for encoding in TABLES:
        ((rowstore,),) = w.sql(f"select hypertable_size('encoding.{encoding}')")
        w.sql(f"select compress_chunk(c) from show_chunks('encoding.{encoding}') as c")
        ((columnstore,),) = w.sql(f"select hypertable_size('encoding.{encoding}')")
        if digest(w, encoding) != expected:
            raise LoadError(f"{encoding}: not every value came back bit for bit")
        found[encoding] = {
            "rowstore": rounded(rowstore / n), "columnstore": rounded(columnstore / n),
        }  # fmt: skip
    scans: dict[str, list[float]] = {encoding: [] for encoding in TABLES}
    for _ in range(REPEATS):
        for encoding, seconds in scans.items():
            seconds.append(scan(w, encoding))
    for encoding, seconds in scans.items():
        found[encoding]["scan_to_float8"] = rounded(median(seconds) / median(scans["float8"]))
    return found


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    options = Options(seconds=parser.parse_args().seconds)
    result: dict[str, Any] = {"python": platform.python_version(), "days_of_walks": options.seconds}
    with world(sensors=1) as w:
        if not w.has_columnstore:
            raise SystemExit("this needs a Community server: set HEADWATER_PG_BINDIR")
        w.sql("create schema encoding")
        result["versions"] = w.versions()
        for name, (make, interval) in KINDS.items():
            result[name] = cell(w, make(options), interval)
            options.say(f"{name}: {result[name]}")
    RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


if __name__ == "__main__":
    main()
