"""The questions of a dashboard as history grows, while readings arrive, against raw readings.

A hundred sensors of five metrics have a reading every 30 minutes; history grows into the past. Another
four thousand send one of each metric every second meanwhile, 20,000 in all, and the scheduled jobs run.
A question goes through the API (top-N, which the API does not have, as SQL on the contract's views); the
same question on raw readings is SQL on telemetry.reading. `--seconds` scales the history: 2 means up to
50 million.

Loading that and rolling it up takes a quarter of an hour. A sender that is asked to come again
later does so, and is counted. Where a machine is shared, HEADWATER_BENCH_LOCK names a file whose lock
(flock) is held alone while questions are asked, else shared.
"""

import contextlib
import fcntl
import http.client
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from bench.background import Load, background
from bench.client import HOST, LoadError
from bench.generate import FORMATS, batches, uid
from bench.history import STREAMS, load_history
from bench.load import requests_of
from bench.options import Options
from bench.report import Report, begin, judge, median, percentile, rounded, versions
from bench.server import Server
from bench.world import SITE_SENSORS, World, world

SENDERS = 4_000
SIZES = (1_000_000, 10_000_000, 50_000_000)
INGEST = 20_000
BATCH = 1_000
ASKED = 60
"""How often a question is asked, each time of another sensor."""
ASKED_RAW = 5
RAW_SECONDS = 5.0
"""No more raw questions of a kind after so long."""
ASKING_SECONDS = 150
"""What readings are prepared for."""
PREPARING_SECONDS = 10
"""What that takes, about."""
MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Question:
    """What a dashboard asks."""

    name: str
    path: Callable[[int, datetime], str] | None
    """The API's path for a sensor's number; None: by `sql`."""
    raw: str
    """On raw readings; parameters %(sensor_id)s, %(since)s, %(until)s."""
    sql: str = ""
    is_rollup: bool = True


def _path(more: str, days: float) -> Callable[[int, datetime], str]:
    def path(sensor: int, now: datetime) -> str:
        since = now - timedelta(days=days)
        return (
            "/api/v1/readings?" + more.format(uid=uid(sensor)) + "&limit=100000"
            f"&from={since:%Y-%m-%dT%H:%M:%SZ}&to={now:%Y-%m-%dT%H:%M:%SZ}"
        )

    return path


BUCKETS = (
    "select time_bucket('{width}', r.ts) as bucket, r.sensor_id, count(*), avg(r.value), min(r.value),"
    " max(r.value) from telemetry.reading as r where {who} and r.metric_id = 3"
    " and r.ts >= %(since)s and r.ts < %(until)s group by 1, 2 order by 1, 2"
)
IN_SITE = (
    "r.sensor_id in (select s.sensor_id from telemetry.sensor as s where s.site_id = %(site_id)s)"
)
LATEST = (
    "select distinct on (r.sensor_id, r.metric_id) r.sensor_id, r.metric_id, r.ts, r.value"
    " from telemetry.reading as r where {who} order by 1, 2, 3 desc"
)
NAMED_IN_SITE = (  # as docs/sql.md says
    "r.sensor_id = any (array("
    "select s.sensor_id from telemetry.sensor as s where s.site_id = %(site_id)s))"
)
TOP = (
    "select r.sensor_id, max(r.{value}) from {source} as r"
    " where {who} and r.metric_id = 3 and r.{ts} >= %(since)s and r.{ts} < %(until)s"
    " group by 1 order by 2 desc limit 10"
)
QUESTIONS = (
    Question(
        "latest of a site",
        lambda sensor, now: "/api/v1/latest?site=site-0",
        LATEST.format(who=IN_SITE),
    ),
    Question(
        "one sensor's day, raw",
        _path("sensor={uid}&resolution=raw", 1),
        "select r.ts, r.metric_id, r.value, r.quality from telemetry.reading as r"
        " where r.sensor_id = %(sensor_id)s and r.ts >= %(until)s - interval '1 day'"
        " and r.ts < %(until)s order by 1, 2",
        is_rollup=False,
    ),
    Question(
        "30 days by hour",
        _path("sensor={uid}&metric=turbidity&resolution=1h", 30),
        BUCKETS.format(width="1 hour", who="r.sensor_id = %(sensor_id)s"),
    ),
    Question(
        "a site's sensors by day",
        _path("site=site-0&metric=turbidity&resolution=1d", 30),
        BUCKETS.format(width="1 day", who=IN_SITE),
    ),
    Question(
        "top 10 of 30 days",
        None,
        TOP.format(value="value", source="telemetry.reading", ts="ts", who=IN_SITE),
        TOP.format(
            value="value_max", source="analytics.reading_1d", ts="bucket", who=NAMED_IN_SITE
        ),
    ),
)


def measure(options: Options) -> Report:
    """Each length of history in turn."""
    report = begin("query")
    sizes = [int(size * min(1.0, options.seconds / 2)) for size in SIZES]
    with world(sensors=SITE_SENSORS + SENDERS) as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"ingest_readings_per_second": INGEST, "streams": STREAMS}
        w.set_rules("tenant")
        server = w.serve()
        w.start_jobs()
        end = int(time.time()) // 3_600 * 3_600
        done = 0
        for size in sizes:
            with alone(False), w.without_policies():
                load_history(w, options, end=end, first=done, upto=size)
            done = size
            with alone(True):
                report.results += ask_all(w, server, size, options)
    report.goals = goals(report.results, sizes)
    return report


@contextlib.contextmanager
def alone(is_alone: bool) -> Iterator[None]:
    """Hold the lock that keeps others off the machine, if there is one."""
    path = os.environ.get("HEADWATER_BENCH_LOCK")
    if path is None:
        yield
        return
    with Path(path).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        yield


def goals(results: list[dict[str, Any]], sizes: list[int]) -> list[Any]:
    """The longest history's p95, and how it compares with the shortest's."""
    p95 = {(r["question"], r["readings"]): r["p95_ms"] for r in results if "question" in r}
    found = []
    for question in QUESTIONS:
        last, first = (p95.get((question.name, size)) for size in (sizes[-1], sizes[0]))
        if last is None or first is None:
            continue
        if question.is_rollup:
            found.append(judge(f"{question.name}, {sizes[-1]:,} readings, p95 ms", last, "<= 50"))
        found.append(judge(f"{question.name}, longest to shortest history", last / first, "<= 2"))
    return found


def senders(w: World, size: int, options: Options) -> list[bytes]:
    """What the other sensors send from now on, a reading a second of each metric."""
    made = batches(
        seed=options.seed + size,
        sensors=SENDERS,
        first=SITE_SENSORS,
        batch=BATCH,
        count=INGEST * ASKING_SECONDS,
        end=int(time.time()) + PREPARING_SECONDS + ASKING_SECONDS,
        violations=0,
    )
    return requests_of(FORMATS["columnar"], made, w.keys["integration"])


def ask_all(w: World, server: Server, size: int, options: Options) -> list[dict[str, Any]]:
    """Every question, through the API and on raw readings, while readings arrive."""
    requests = senders(w, size, options)
    results = []
    with (
        background(server.port, Load(requests, 2, INGEST / BATCH)) as refused,
        psycopg.connect(w.runtime.superuser_url, autocommit=True) as connection,
    ):
        for question in QUESTIONS:
            if options.wants(question.name):
                found = ask(w, server, question, connection)
                results.append({"question": question.name, "readings": size} | found)
                options.say(f"{size:,}: {question.name}: {found}")
    results.append({"readings": size, "requests_asked_to_come_again": refused.count})
    return results


def ask(
    w: World, server: Server, question: Question, connection: psycopg.Connection[Any]
) -> dict[str, Any]:
    """One question: its times, and those of the same on raw readings."""
    times: list[float] = []
    raw_times: list[float] = []
    line = http.client.HTTPConnection(HOST, server.port, timeout=120)
    headers = {"Authorization": f"Bearer {w.keys['scientist']}"}
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    ((site_id,),) = w.sql("select site_id from telemetry.site where code = 'site-0'")
    for number in range(ASKED):
        arguments = {
            "sensor_id": int(w.sensor_ids[number % SITE_SENSORS]),
            "site_id": site_id, "since": now - MONTH, "until": now,
        }  # fmt: skip
        started = time.perf_counter()
        if question.path is not None:
            line.request("GET", question.path(number % SITE_SENSORS, now), headers=headers)
            answer = line.getresponse()
            body = answer.read()
            times.append(time.perf_counter() - started)
            page = msgspec.json.decode(body)
            if answer.status != 200 or not (page.get("readings") or page.get("latest")):
                raise LoadError(f"{question.name}: {answer.status} {body[:200]!r}")
        else:
            connection.execute(question.sql, arguments).fetchall()
            times.append(time.perf_counter() - started)
        if number % (ASKED // ASKED_RAW) == 0 and sum(raw_times) < RAW_SECONDS:
            started = time.perf_counter()
            connection.execute(question.raw, arguments).fetchall()
            raw_times.append(time.perf_counter() - started)
            line.close()  # the server lets nobody idle for so long; the next request connects anew
    line.close()
    return {
        "p50_ms": rounded(percentile(times, 0.5) * 1e3),
        "p95_ms": rounded(percentile(times, 0.95) * 1e3),
        "raw_p50_ms": rounded(median(raw_times) * 1e3),
        "raw_to_rollup": rounded(median(raw_times) / median(times)),
    }
