"""psql's way by the relay: against the database itself, and over archived readings against the API.

The same login asks the same statement both ways, in turn. One row: of a rollup, which passes unread, and
of hot readings, which the relay must look at; a sensor's newest, on a connection that stays. A million
rows: hot readings by psql to nowhere. Archived: a million readings of a day, aggregated, on connections
that stay; what psql's start and login cost is no part of it.
"""

import asyncio
import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
from psycopg.conninfo import make_conninfo

from app.db.pool import connect
from app.identity.login import make_login
from app.local.credentials import HOST, free_port, is_free
from app.settings import Settings
from bench.options import Options
from bench.report import Report, begin, judge, median, rounded, versions
from bench.world import World, world
from jobs import archive

SENSORS = 100
ROWS = 1_000_000
ASKED, COLD_ASKED = 100, 5
COLD_DAYS = 60
ONE = (
    "select {value} from {view} where sensor_id = 7 and metric_id = 1"
    " and {ts} >= now() - interval '9 days' order by {ts} desc limit 1"
)
MANY = "select * from reading where ts >= now() - interval '3 days'"
COLD = (
    "select metric_id, count(*), avg(value) from reading where ts < now() - interval '30 days'"
    " group by 1 order by 1"
)
CELLS = {
    "one row, unread": (ONE.format(value="value_avg", view="reading_1h", ts="bucket"), "<= 2"),
    "one row, looked at": (ONE.format(value="value", view="reading", ts="ts"), "<= 10"),
}
FILL = """
insert into telemetry.reading (ts, sensor_id, metric_id, value, quality)
select %s::timestamptz + n * interval '1 day' / %s, s, m, 10 + random(), 2
from generate_series(0, %s - 1) as n, generate_series(1, %s) as s, generate_series(1, 5) as m
"""


def measure(options: Options) -> Report:
    """Each cell in turn."""
    report = begin("relay")
    with (
        world(sensors=SENSORS) as w,
        tempfile.TemporaryDirectory(prefix="headwater-bench-lake-") as folder,
    ):
        report.versions = versions(w.versions())
        rows = max(10_000, int(ROWS * min(1.0, options.seconds / 2)))
        report.settings = w.settings() | {"rows": rows}
        direct = asyncio.run(fill(w, rows, f"file:{folder}"))
        with relaying(w, f"file:{folder}") as port:
            by_relay = make_conninfo(direct, host=HOST, port=str(port))
            for name, (text, goal) in CELLS.items():
                found = in_turn(
                    options, partial(often, by_relay, text), partial(often, direct, text)
                )
                keep(report, name, found, goal)
            found = in_turn(options, partial(psql, by_relay, MANY), partial(psql, direct, MANY))
            keep(report, f"{rows:,} rows", found, "<= 1.5")
            api = w.serve(ARCHIVE_URL=f"file:{folder}").port
            found = in_turn(
                options, partial(often, by_relay, COLD, COLD_ASKED), partial(ask, w, api, COLD)
            )
            keep(report, "archived, to the API", found, "<= 1.2")
    return report


async def fill(w: World, rows: int, url: str) -> str:
    """Hot readings of a day and archived ones of another; the tenant's login."""
    ticks = rows // SENSORS // 5
    for days in (2, COLD_DAYS):
        ((at,),) = w.sql("select date_trunc('day', now()) - %s * interval '1 day'", days)
        w.sql(FILL, at, ticks, ticks, SENSORS)
    w.sql("analyze")
    owner = w.runtime.superuser_url
    settings = Settings(database_url=owner, owner_database_url=owner, archive_url=url)
    outcome = await archive.run(settings)
    assert not outcome.problems and outcome.moved, outcome
    ((slug,),) = w.sql("select slug from identity.tenant where tenant_id = %s", w.tenant_id)
    async with await connect(owner, application="bench") as connection:
        return await make_login(connection, slug, owner)


@contextlib.contextmanager
def relaying(w: World, url: str) -> Iterator[int]:
    """A relay's port."""
    port = free_port()
    log = w.runtime.folder.log / "relay.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from app.cli import main; main()",
                "relay",
                "--port",
                str(port),
            ],
            env=w.runtime.environment() | {"ARCHIVE_URL": url},
            stdout=output,
            stderr=output,
        )
    try:
        while is_free(port):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def in_turn(
    options: Options, measured: Callable[[], float], limit: Callable[[], float]
) -> dict[str, float]:
    """Seconds of both, and their ratio, the limit before and after each repetition."""
    measured(), limit()
    before, pairs = limit(), []
    for _ in range(options.repeats):
        mine = measured()
        after = limit()
        pairs.append((mine, (before + after) / 2))
        before = after
    return {
        "seconds": rounded(median([mine for mine, _ in pairs])),
        "limit_seconds": rounded(median([theirs for _, theirs in pairs])),
        "ratio": rounded(median([mine / theirs for mine, theirs in pairs])),
    }


def keep(report: Report, name: str, found: dict[str, float], goal: str) -> None:
    """Into the report."""
    report.results.append({"cell": name} | found)
    report.goals.append(judge(f"{name}, time to that of the limit", found["ratio"], goal))


def often(url: str, text: str, count: int = ASKED) -> float:
    """Seconds of a statement on a connection that stays."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode()).fetchall()
        began = time.perf_counter()
        for _ in range(count):
            assert connection.execute(text.encode()).fetchall()
        return (time.perf_counter() - began) / count


def psql(url: str, text: str) -> float:
    """Seconds until psql has everything."""
    began = time.perf_counter()
    words = ["psql", url, "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", text]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def ask(w: World, port: int, text: str) -> float:
    """Seconds of a statement at the API, on a connection that stays."""
    headers = {
        "Authorization": f"Bearer {w.keys['scientist']}",
        "Content-Type": "application/json",
    }
    body = json.dumps({"sql": text}).encode()
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=60)) as line:
        line.connect()
        began = time.perf_counter()
        for _ in range(COLD_ASKED):
            line.request("POST", "/api/v1/sql", body, headers)
            assert json.load(line.getresponse())["engine"] == "duckdb"
        return (time.perf_counter() - began) / COLD_ASKED
