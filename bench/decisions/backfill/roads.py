# ruff: noqa: S608 - the statements are put together from constants
"""Which road a year of history takes into the database: every way loads the same readings in turn.

`python bench/decisions/backfill/roads.py [--days 10] [--sensors 1000] [--repeats 3]` against
OWNER_DATABASE_URL (the local runtime's, else the variable's). It makes a database of its own, migrates
it and drops it at the end. Prints readings/s, the ratio to un-indexed COPY by as many connections, and
bytes of WAL a reading; every way's count and sum are checked.
"""

import asyncio
import json
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from psycopg import AsyncConnection

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from app.backfill import ledger
from app.backfill.load import Group, Loader, Totals, newest_of
from app.db.pool import connect
from app.ingest.batch import COPY_READING, Batch, join
from app.migrate import migrate
from app.settings import Settings

DAY = 86_400_000_000
START = 1_577_836_800_000_000  # 2020-01-01
METRICS = 4
PLAIN = COPY_READING.replace("telemetry.reading", "bench.plain")
DIRECT = COPY_READING.replace("telemetry.reading", "bench.direct")
SET_UP = """
create schema bench;
create table bench.plain (like telemetry.reading including defaults including constraints);
select create_hypertable('bench.plain', by_range('ts', interval '1 day'),
    create_default_indexes => false);
"""
SET_UP_DIRECT = """
create table bench.direct (like telemetry.reading including defaults including constraints);
select create_hypertable('bench.direct', by_range('ts', interval '1 day'),
    create_default_indexes => false);
alter table bench.direct set (timescaledb.compress,
    timescaledb.compress_segmentby = 'sensor_id, metric_id', timescaledb.compress_orderby = 'ts');
"""
Way = Callable[[AsyncConnection, int, Batch], Awaitable[None]]


def make_days(days: int, sensors: int, per_sensor: int) -> list[Batch]:
    """Walks with two decimals, a batch a day, in index order."""
    rng = np.random.default_rng(7)
    n = sensors * METRICS * per_sensor
    batches = []
    for day in range(days):
        ts = START + day * DAY + np.repeat(
            np.arange(per_sensor) * (DAY // per_sensor), sensors * METRICS
        )  # fmt: skip
        batches.append(
            Batch(
                sensor_id=np.tile(np.repeat(np.arange(1, sensors + 1), METRICS), per_sensor),
                metric_id=np.tile(np.arange(1, METRICS + 1), sensors * per_sensor).astype(np.int16),
                ts=ts,
                value=np.round(8 + rng.standard_normal(n), 2),
                quality=np.full(n, 2, dtype=np.int16),
            )
        )
    return batches


def by_series(batch: Batch) -> Batch:
    """The same in the order of sensor, metric, ts."""
    order = np.lexsort((batch.ts, batch.metric_id, batch.sensor_id))
    return Batch(*(getattr(batch, name)[order] for name in (
        "sensor_id", "metric_id", "ts", "value", "quality")))  # fmt: skip


async def copy(connection: AsyncConnection, statement: str, batch: Batch) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as stream:
        await stream.write(batch.copy_readings())


async def plain(connection: AsyncConnection, day: int, batch: Batch) -> None:
    await copy(connection, PLAIN, batch)


async def ordinary(connection: AsyncConnection, day: int, batch: Batch) -> None:
    await copy(connection, COPY_READING, batch)


async def unsorted(connection: AsyncConnection, day: int, batch: Batch) -> None:
    await copy(connection, COPY_READING, by_series(batch))


async def attached(connection: AsyncConnection, day: int, batch: Batch) -> None:
    """A plain table, its index afterwards, then one more chunk of the ordinary table."""
    name = f"bench.day_{day}"
    first, last = START + day * DAY, START + (day + 1) * DAY
    async with connection.transaction():
        await connection.execute(
            f"create table {name} (like telemetry.reading including defaults including constraints)"
        )
        await copy(connection, COPY_READING.replace("telemetry.reading", name), batch)
        await connection.execute(f"create unique index on {name} (ts, sensor_id, metric_id)")
        await connection.execute(
            f"call attach_chunk('telemetry.reading', '{name}',"
            f" jsonb_build_object('ts', jsonb_build_array({first}::bigint, {last}::bigint)))"
        )


async def rebuilt(connection: AsyncConnection, day: int, batch: Batch) -> None:
    """The second index of an empty chunk dropped, built again after the COPY (Apache edition)."""
    async with connection.transaction():
        first = f"to_timestamp({(START + day * DAY) // 1_000_000})"
        await connection.execute(
            f"do $$ declare i text; begin"
            f" insert into telemetry.reading values (0, {first}, 0, 1);"
            f" delete from telemetry.reading where ts = {first};"
            f" select format('%I.%I', x.schemaname, x.indexname) into strict i"
            f" from timescaledb_information.chunks as c join pg_indexes as x"
            f" on x.schemaname = c.chunk_schema and x.tablename = c.chunk_name"
            f" where c.hypertable_name = 'reading' and c.range_start = {first}"
            f" and x.indexdef like '%(sensor_id, metric_id, ts)'; execute 'drop index ' || i; end $$"
        )
        await copy(connection, COPY_READING, batch)
        cursor = await connection.execute(
            "select format('%I.%I', chunk_schema, chunk_name) from timescaledb_information.chunks"
            f" where hypertable_name = 'reading' and range_start = {first}"
        )
        (chunk,) = cast("tuple[str]", await cursor.fetchone())
        await connection.execute(f"create index on {chunk} (sensor_id, metric_id, ts)")


async def direct(connection: AsyncConnection, day: int, batch: Batch) -> None:
    await connection.execute("set timescaledb.enable_direct_compress_copy = on")
    await connection.execute("set timescaledb.enable_direct_compress_copy_client_sorted = on")
    await copy(connection, DIRECT, by_series(batch))


async def compressed(connection: AsyncConnection, day: int, batch: Batch) -> None:
    await copy(connection, COPY_READING, batch)
    await connection.execute(
        "select compress_chunk(c) from show_chunks('telemetry.reading',"
        f" newer_than => to_timestamp({(START + day * DAY) // 1_000_000}),"
        f" older_than => to_timestamp({(START + (day + 1) * DAY) // 1_000_000})) as c"
    )


async def make_chunks(connection: AsyncConnection, table: str, days: int) -> None:
    """Whoever creates a chunk holds a lock to its commit, so two would wait for each other."""
    for day in range(days):
        moment = f"to_timestamp({(START + day * DAY) // 1_000_000})"
        async with connection.transaction():
            await connection.execute(f"insert into {table} values (0, {moment}, 0, 1)")
            await connection.execute(f"delete from {table} where ts = {moment}")


IMPORT = "headwater import x2, from resolved arrays"
# name -> table, what a day does, connections, chunks made before, editions
WAYS: dict[str, tuple[str, Way, int, bool, tuple[str, ...]]] = {
    "un-indexed x1": ("bench.plain", plain, 1, False, ("apache", "community")),
    "un-indexed x2": ("bench.plain", plain, 2, True, ("apache", "community")),
    "ordinary x1": ("telemetry.reading", ordinary, 1, False, ("apache", "community")),
    "ordinary x1, by series": ("telemetry.reading", unsorted, 1, False, ("apache", "community")),
    "ordinary x2": ("telemetry.reading", ordinary, 2, False, ("apache", "community")),
    "ordinary x2, chunks made before": (
        "telemetry.reading", ordinary, 2, True, ("apache", "community")),
    IMPORT: ("telemetry.reading", ordinary, 2, False, ("apache", "community")),
    "second index rebuilt x1": ("telemetry.reading", rebuilt, 1, False, ("apache",)),
    "attached x1": ("telemetry.reading", attached, 1, False, ("community",)),
    "attached x2": ("telemetry.reading", attached, 2, False, ("community",)),
    "ordinary x1 + compress": ("telemetry.reading", compressed, 1, False, ("community",)),
    "direct compress x1 (no unique key)": ("bench.direct", direct, 1, False, ("community",)),
}  # fmt: skip


async def run(url: str, name: str, days: list[Batch]) -> tuple[float, float]:
    """Readings a second and WAL bytes a reading; the rows are checked and thrown away."""
    table, way, connections, is_prepared, _ = WAYS[name]
    pool = [await connect(url, application="bench") for _ in range(connections)]
    n = sum(len(batch) for batch in days)
    total = sum(float(batch.value.sum()) for batch in days)
    try:
        before = await wal(pool[0])
        started = time.perf_counter()
        if is_prepared:
            await make_chunks(pool[0], table, len(days))
        half = -(-len(days) // connections)

        async def work(number: int) -> None:
            for day in range(number * half, min((number + 1) * half, len(days))):
                await way(pool[number], day, days[day])

        if name == IMPORT:
            await load(url, days)
        else:
            await asyncio.gather(*(work(number) for number in range(connections)))
        seconds = time.perf_counter() - started
        bytes_written = await wal(pool[0]) - before
        cursor = await pool[0].execute(f"select count(*), sum(value) from {table}")
        row = await cursor.fetchone()
        assert row is not None and row[0] == n and abs(row[1] - total) < 1e-3, (name, row, n, total)
        await pool[0].execute(f"truncate {table}")
        await pool[0].execute("checkpoint")
    finally:
        for connection in pool:
            await connection.close()
    return n / seconds, bytes_written / n


async def load(url: str, days: list[Batch]) -> None:
    """What `headwater import` does with files that are read and resolved, ledger and all."""
    whole = join(days)
    async with await connect(url, application="bench") as connection:
        await connection.execute(
            "insert into identity.tenant (slug, title) values ('bench', 'Bench') on conflict do nothing"
        )
        cursor = await connection.execute("select tenant_id from identity.tenant")
        (tenant_id,) = cast("tuple[int]", await cursor.fetchone())
        number = await ledger.begin_file(
            connection, tenant_id=tenant_id, sha256=bytes(32), name="bench",
            reading_count=len(whole), rejected=0,
        )  # fmt: skip
    file_no = np.zeros(len(whole), dtype=np.int32)
    async with Loader(url, Totals(), lambda _: None, connections=2) as loader:
        await loader.load(Group(whole, file_no, [number], newest_of(days[-1])))


async def wal(connection: AsyncConnection) -> int:
    cursor = await connection.execute("select pg_current_wal_lsn() - '0/0'")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--sensors", type=int, default=1_000)
    parser.add_argument("--per-sensor", type=int, default=48, help="readings of a metric a day")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="ways whose name has this in it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    owner = Settings.from_env().owner_database_url
    parts = urlsplit(owner)
    url = urlunsplit(parts._replace(path="/backfill_bench"))
    maintenance = urlunsplit(parts._replace(path="/postgres"))
    async with await connect(maintenance, application="bench") as connection:
        await connection.execute("drop database if exists backfill_bench with (force)")
        await connection.execute("create database backfill_bench template template0")
    try:
        await migrate(url)
        async with await connect(url, application="bench") as connection:
            cursor = await connection.execute("select current_setting('timescaledb.license')")
            row = await cursor.fetchone()
            edition = "community" if row is not None and row[0] == "timescale" else "apache"
            await connection.execute(SET_UP)
            if edition == "community":
                await connection.execute(SET_UP_DIRECT)
                await connection.execute("select delete_job(job_id) from"
                    " timescaledb_information.jobs where hypertable_name is not null")  # fmt: skip
        days = make_days(arguments.days, arguments.sensors, arguments.per_sensor)
        names = [n for n, w in WAYS.items() if edition in w[4] and arguments.only in n]
        names = list(dict.fromkeys(["un-indexed x1", "un-indexed x2", *names]))
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for _ in range(arguments.repeats):
            for name in names:
                results[name].append(await run(url, name, days))
    finally:
        async with await connect(maintenance, application="bench") as connection:
            await connection.execute("drop database if exists backfill_bench with (force)")
    report(edition, results, sum(len(b) for b in days), arguments.json)


def report(
    edition: str, results: dict[str, list[tuple[float, float]]], n: int, is_json: bool
) -> None:
    rate = {name: statistics.median(r for r, _ in runs) for name, runs in results.items()}
    rows: list[dict[str, Any]] = [
        {
            "way": name,
            "readings_per_s": round(rate[name]),
            "to_limit_x1": round(
                statistics.median(
                    r / b for (r, _), (b, _) in zip(runs, results["un-indexed x1"], strict=True)
                ), 2),
            "to_limit_x2": round(
                statistics.median(
                    r / b for (r, _), (b, _) in zip(runs, results["un-indexed x2"], strict=True)
                ), 2),
            "wal_bytes": round(statistics.median(w for _, w in runs), 1),
        }
        for name, runs in results.items()
    ]  # fmt: skip
    if is_json:
        print(json.dumps({"edition": edition, "readings": n, "ways": rows}, indent=1))
        return
    print(f"{edition}, {n:,} readings a run")
    print("| way | M readings/s | to un-indexed x1 | x2 | WAL bytes |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['way']} | {row['readings_per_s'] / 1e6:.2f} | {row['to_limit_x1']}"
            f" | {row['to_limit_x2']} | {row['wal_bytes']} |"
        )


if __name__ == "__main__":
    asyncio.run(main())
