"""Whether the shards do the work of a question, by EXPLAIN, and how long it takes beside one server."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import psycopg

from app.db.queries import queries
from app.ingest.batch import Batch
from bench.client import LoadError
from bench.generate import METRICS, uid, walk
from bench.load import copy
from bench.options import Options
from bench.report import median, percentile, rounded
from bench.server import Server
from bench.world import World

DAYS = 30
STEP_SECONDS = 3_600
SENSORS = 200
"""Of the fleet, those that have a history: five metrics every hour."""
PART = 200_000
ASKED = 60
ASKED_ALL = 9
ALL_SENSORS: LiteralString = (
    "select r.bucket, r.metric_id, sum(r.n), sum(r.value_sum) / sum(r.n), min(r.value_min),"
    " max(r.value_max) from analytics.reading_1h as r"
    " where r.bucket >= %(since)s and r.bucket < %(until)s group by 1, 2 order by 1, 2"
)


def compare(single: World, spread: World, options: Options) -> list[dict[str, Any]]:
    """Load both with the same month, then ask both the same questions in turn."""
    end = int(time.time()) // 3_600 * 3_600
    sensors = max(10, int(min(1.0, options.seconds) * SENSORS))
    upkeep = load_month(single, sensors, options, end)
    on_shards = load_month(spread, sensors, options, end)
    upkeep |= {f"{name}_on_shards": value for name, value in on_shards.items()}
    if single.digest() != spread.digest():
        raise LoadError("the two databases do not hold the same")
    until = datetime.fromtimestamp(end, UTC)
    span = {"since": until - timedelta(days=DAYS), "until": until}
    found = [
        {"question": "upkeep"} | upkeep,
        one_sensor(single, spread, sensors, span),
        all_sensors(single, spread, span) | {"streams": sensors * len(METRICS)},
    ]
    for result in found:
        options.say(str(result))
    return found


def load_month(w: World, sensors: int, options: Options, end: int) -> dict[str, float]:
    """History up to `end`, rolled up and compressed; what that cost."""
    ticks = DAYS * 86_400 // STEP_SECONDS
    streams = sensors * len(METRICS)
    value = walk(np.random.default_rng(options.seed), ticks, [*METRICS] * sensors)
    ts = (end - np.arange(ticks, 0, -1, dtype=np.int64) * STEP_SECONDS) * 1_000_000
    w.empty()
    w.make_chunks(sorted(set((ts // 86_400_000_000).tolist())))
    part = max(1, PART // streams)  # each COPY is a range that every rollup has to visit again
    buffers = [
        Batch(
            sensor_id=np.tile(np.repeat(w.sensor_ids[:sensors], len(METRICS)), len(some)),
            metric_id=np.tile(w.metric_ids, len(some) * sensors),
            ts=np.repeat(some, streams),
            value=value[at : at + part].reshape(-1),
            quality=np.full(len(some) * streams, 2, dtype=np.int16),
        ).copy_readings()
        for at in range(0, ticks, part)
        for some in (ts[at : at + part],)
    ]
    copy(w, buffers)
    # else the policies are at it already, and two refreshes of a rollup do not go together
    w.on_nodes("select _timescaledb_functions.stop_background_workers()")
    spent = [w.cpu_seconds()]
    asyncio.run(w.refresh_rollups())
    spent.append(w.cpu_seconds())
    compress = (
        "select count(compress_chunk(c, if_not_compressed => true))"
        " from show_chunks('telemetry.reading{}', older_than => interval '1 day') as c"
    )
    if w.is_distributed:
        w.sql("select ops.on_shards(%s)", compress.format("_{shard}"))
    else:
        w.sql(compress.format(""))
    spent.append(w.cpu_seconds())
    w.on_nodes("vacuum (analyze)")
    w.on_nodes("checkpoint")
    readings = ticks * streams
    return {
        "refresh_s_per_million": rounded((spent[1] - spent[0]) / readings * 1e6, 3),
        "compress_s_per_million": rounded((spent[2] - spent[1]) / readings * 1e6, 3),
        "rollup_1m_bytes": rounded(rollup_bytes(w) / readings, 3),
    }


def rollup_bytes(w: World) -> int:
    """What the rollups by minute take, on all servers; here every reading has a bucket of its own."""
    found = w.on_nodes(
        "select coalesce(sum(hypertable_size(format('%I.%I', c.materialization_hypertable_schema,"
        " c.materialization_hypertable_name))), 0)"
        " from timescaledb_information.continuous_aggregates as c"
        " where c.view_name::text like 'rollup_1m%'"
    )
    return sum(int(size) for ((size,),) in found)


def one_sensor(
    single: World, spread: World, sensors: int, span: dict[str, datetime]
) -> dict[str, Any]:
    """The API's question for one sensor's hours, as the API asks it."""
    arguments = span | {
        "resolution": "1h", "after_ts": span["since"], "to_ts": span["until"],
        "after_sensor_id": -1, "after_metric_id": -1, "metric_ids": None, "site_ids": None,
        "sensor_ids": [int(spread.sensor_ids[0])], "tenant_id": spread.tenant_id, "count": 100_000,
        "skip": 0,
    }  # fmt: skip
    job = job_of(spread, queries("read")["readings_rollup"], arguments)
    servers = [(w, w.serve()) for w in (single, spread)]
    times: list[list[float]] = [[], []]
    for number in range(ASKED):
        bodies = []
        for (w, server), seconds in zip(servers, times, strict=True):
            began = time.perf_counter()
            bodies.append(get(w, server, number % sensors, span))
            seconds.append(time.perf_counter() - began)
        if bodies[0] != bodies[1]:
            raise LoadError(f"{uid(number % sensors)}: the two databases answer differently")
    return {"question": "one sensor by hour", "tasks": job["Task Count"]} | told(*times)


def get(w: World, server: Server, sensor: int, span: dict[str, datetime]) -> bytes:
    """One answer of the API."""
    return server.get(
        f"/api/v1/readings?sensor={uid(sensor)}&resolution=1h&limit=100000"
        f"&from={span['since']:%Y-%m-%dT%H:%M:%SZ}&to={span['until']:%Y-%m-%dT%H:%M:%SZ}",
        w.keys["scientist"],
    )


def all_sensors(single: World, spread: World, span: dict[str, datetime]) -> dict[str, Any]:
    """Everything by hour and metric: shards aggregate, the coordinator merges."""
    job = job_of(spread, ALL_SENSORS, span)
    ((shards,),) = spread.sql(
        "select count(*) from pg_dist_shard where logicalrelid = 'telemetry.reading'::regclass"
    )
    top = job["Tasks"][0]["Remote Plan"][0][0]["Plan"]["Node Type"]
    if job["Task Count"] != shards or top != "Aggregate":
        raise LoadError(f"{job['Task Count']} tasks for {shards} shards that end with {top}")
    times: list[list[float]] = [[], []]
    cpu = [0.0, 0.0]
    rows: list[list[Any]] = [[], []]
    for _ in range(ASKED_ALL):
        for place, w in enumerate((single, spread)):
            with psycopg.connect(w.runtime.superuser_url, autocommit=True) as connection:
                connection.execute("select 1 from analytics.reading_1h limit 1")
                before = w.cpu_seconds()
                began = time.perf_counter()
                rows[place] = connection.execute(ALL_SENSORS, span).fetchall()
                times[place].append(time.perf_counter() - began)
                cpu[place] += w.cpu_seconds() - before
    same = [row[:3] + row[4:] for row in rows[0]] == [row[:3] + row[4:] for row in rows[1]]
    if not same or not np.allclose([r[3] for r in rows[0]], [r[3] for r in rows[1]], rtol=1e-12):
        raise LoadError("all sensors by hour: the two databases answer differently")
    fetched = fetched_rows(spread, ALL_SENSORS, span)
    return {
        "question": "all sensors by hour", "tasks": job["Task Count"], "shards": shards,
        "rows": len(rows[1]),
        "cpu_ms": rounded(cpu[1] / ASKED_ALL * 1e3, 3),
        "single_cpu_ms": rounded(cpu[0] / ASKED_ALL * 1e3, 3),
        "fetched_to_answered": rounded(fetched / shards / len(rows[1])),
    } | told(*times)  # fmt: skip


def told(single: list[float], spread: list[float]) -> dict[str, float]:
    """Times of both in milliseconds."""
    return {
        "p50_ms": rounded(median(spread) * 1e3),
        "p95_ms": rounded(percentile(spread, 0.95) * 1e3),
        "single_p50_ms": rounded(median(single) * 1e3),
        "single_p95_ms": rounded(percentile(single, 0.95) * 1e3),
        "time_to_single": rounded(median(spread) / median(single)),
    }


def explain(w: World, what: str, statement: LiteralString, arguments: dict[str, Any]) -> Any:
    """The plan, with the arguments as constants."""
    with (
        psycopg.connect(w.runtime.superuser_url, autocommit=True) as connection,
        psycopg.ClientCursor(connection) as cursor,
    ):
        cursor.execute(f"explain ({what}, format json) {statement}".encode(), arguments)
        return cursor.fetchall()[0][0][0]


def job_of(w: World, statement: LiteralString, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the coordinator has the shards do. Raises LoadError unless it is one round of tasks."""
    parts = list(_parts(explain(w, "costs off", statement, arguments)))
    jobs: list[dict[str, Any]] = [part["Job"] for part in parts if "Job" in part]
    bad = [key for part in parts for key in part if key in ("Subplans", "Dependent Jobs")]
    if len(jobs) != 1 or bad:
        raise LoadError(f"not pushed down: {len(jobs)} jobs, {bad}: {statement}")
    return jobs[0]


def fetched_rows(w: World, statement: LiteralString, arguments: dict[str, Any]) -> int:
    """Rows that came from the shards."""
    for part in _parts(explain(w, "analyze", statement, arguments)):
        if part.get("Custom Plan Provider") == "Citus Adaptive":
            return int(part["Actual Rows"])
    raise LoadError(f"no shard was asked: {statement}")


def _parts(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, dict):
        yield plan
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from _parts(part)
