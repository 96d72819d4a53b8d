"""A throw-away Headwater to measure: servers, schema, a tenant with its fleet, keys and limits.

Durability is as in production: fsync is on, every answer comes after COMMIT, PostgreSQL is tuned as
`headwater dev up` tunes it. Background jobs of the database go on, as they do in real life.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from app.db.pool import connect
from app.errors import CommandError
from app.identity.key import create_key
from app.ingest.batch import Batch
from app.local.redis_server import find_program
from app.local.runtime import PRELOAD, Runtime
from app.local.temporary import temporary
from app.local.tuning import settings_for, this_machine
from app.migrate import migrate
from bench.generate import METRICS, Readings, uid
from bench.processes import cpu_seconds
from bench.server import NOOP, SERVE, Server
from jobs.rollup import refresh_rollups

TUNED = ("shared_buffers", "max_wal_size", "min_wal_size")
SITE_SENSORS = 100
EMPTYINGS = 5
ROLES = ("device", "integration", "scientist", "operator")
# limits are on, but never reached: a sensor of the fleet sends more than one reading a second
HIGH_LIMITS = {
    "RATE_SENSOR_REQUESTS_PER_SECOND": "1000000",
    "RATE_SENSOR_BURST": "1000000",
    "RATE_DEVICE_READINGS_PER_SECOND": "2000000",
    "RATE_DEVICE_BURST": "20000000",
}
SHOWN = (
    "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size",
    "wal_compression", "checkpoint_timeout", "max_parallel_workers_per_gather",
)  # fmt: skip


class World:
    """The database and what runs on it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.tenant_id = 0
        self.keys: dict[str, str] = {}
        self.sensor_ids: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.metric_ids: NDArray[np.int16] = np.zeros(0, dtype=np.int16)
        self._servers: list[Server] = []
        self._jobs: subprocess.Popen[bytes] | None = None

    # SQL

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """One statement as superuser, outside of a transaction."""
        with psycopg.connect(self.runtime.superuser_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    @property
    def is_distributed(self) -> bool:
        """Whether there are workers."""
        return bool(self.runtime.workers)

    @property
    def has_columnstore(self) -> bool:
        """Whether this is the Community edition."""
        ((licence,),) = self.sql("select current_setting('timescaledb.license', true)")
        return bool(licence == "timescale")

    def versions(self) -> dict[str, str]:
        """The server's."""
        ((server, timescale),) = self.sql(
            "select current_setting('server_version'),"
            " (select extversion from pg_extension where extname = 'timescaledb')"
        )
        edition = "community" if self.has_columnstore else "apache"
        return {"postgresql": server, "timescaledb": timescale, "edition": edition}

    def settings(self) -> dict[str, Any]:
        """The server settings that matter to the numbers."""
        rows = self.sql(
            "select name, current_setting(name) from pg_settings where name = any(%s)", list(SHOWN)
        )
        return dict(rows)

    def cpu_seconds(self) -> float:
        """Processor time of the database so far, all of its servers."""
        return sum(self.cpu_by_node().values())

    def cpu_by_node(self) -> dict[str, float]:
        """Processor time of each database server so far; a coordinator is the first."""
        return {node.name: cpu_seconds(node.pid or 0) for node in self.runtime.nodes}

    def wal_bytes(self) -> int:
        """What all servers have written to their logs so far."""
        found = self.on_nodes("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        return sum(int(number) for ((number,),) in found)

    def on_nodes(self, statement: str) -> list[list[tuple[Any, ...]]]:
        """One statement on every server as superuser, outside of a transaction."""
        found = []
        for node in self.runtime.nodes:
            with psycopg.connect(node.url(), autocommit=True) as connection:
                cursor = connection.execute(statement.encode())
                found.append(cursor.fetchall() if cursor.description else [])
        return found

    # What is in it

    def make_fleet(self, sensors: int) -> None:
        """A tenant with this many sensors, a hundred a site, and a key of each kind."""
        ((self.tenant_id,),) = self.sql(
            "insert into identity.tenant (slug, title) values ('bench', 'Benchmark')"
            " returning tenant_id"
        )
        self.sql(
            "insert into telemetry.site (tenant_id, code, title)"
            " select %s, format('site-%%s', n), 'Site' from generate_series(0, %s) as n",
            *(self.tenant_id, (sensors - 1) // SITE_SENSORS),
        )
        self.sql(
            "insert into telemetry.sensor (tenant_id, site_id, uid)"
            " select p.tenant_id, p.site_id, u.uid"
            " from unnest(%s::text[]) with ordinality as u (uid, no)"
            " join telemetry.site as p on p.code = format('site-%%s', (u.no - 1) / %s)",
            *([uid(n) for n in range(sensors)], SITE_SENSORS),
        )
        ids = self.sql("select s.sensor_id from telemetry.sensor as s order by s.uid")
        self.sensor_ids = np.array([row[0] for row in ids], dtype=np.int64)
        found = dict(self.sql("select m.code, m.metric_id from telemetry.metric as m"))
        self.metric_ids = np.array([found[m.code] for m in METRICS], dtype=np.int16)
        self.keys = {role: asyncio.run(self._make_key(role)) for role in ROLES}

    async def _make_key(self, role: str) -> str:
        async with await connect(self.runtime.superuser_url, application="bench") as connection:
            return await create_key(connection, tenant_id=self.tenant_id, role=role, title="bench")

    def set_rules(self, scope: str | None) -> int:
        """A low and a high limit for every metric of each tenant, site or sensor; how many in all."""
        self.sql("delete from alert.threshold")
        if scope is None:
            return 0
        place = {
            "tenant": "(select null::bigint as site_id, null::bigint as sensor_id)",
            "site": "(select p.site_id, null::bigint as sensor_id from telemetry.site as p)",
            "sensor": "(select null::bigint as site_id, s.sensor_id from telemetry.sensor as s)",
        }[scope]
        self.sql(
            "insert into alert.threshold"  # noqa: S608 - the place is one of three texts above
            " (tenant_id, site_id, sensor_id, metric_id, severity, side, limit_value)"
            " select %s, o.site_id, o.sensor_id, m.metric_id, 'warning', l.side, l.limit_value"
            f" from {place} as o"
            " cross join unnest(%s::text[], %s::float8[], %s::float8[]) as c (code, low, high)"
            " join telemetry.metric as m on m.code = c.code"
            " cross join lateral (values ('low', c.low), ('high', c.high)) as l (side, limit_value)",
            self.tenant_id,
            [m.code for m in METRICS],
            [m.low for m in METRICS],
            [m.high for m in METRICS],
        )
        self.sql("analyze alert.threshold")
        ((count,),) = self.sql("select count(*) from alert.threshold")
        return int(count)

    def empty(self) -> None:
        """Forget all readings and alerts; the next stretch begins like every other."""
        for attempt in range(EMPTYINGS):
            try:
                self.sql(
                    "truncate telemetry.reading, telemetry.ingest_log, telemetry.latest_reading,"
                    " telemetry.ingest_reply, alert.candidate, alert.outbox, alert.episode cascade"
                )
                break
            except psycopg.errors.DeadlockDetected:  # with a shard's policies
                if attempt == EMPTYINGS - 1:
                    raise
        # what writers remember of unresolved episodes is old
        outdate = "update alert.watch{} set version = version + 1 where bucket >= 0"
        if self.is_distributed:
            self.sql("select ops.on_shards(%s)", outdate.format("_{shard}"))
        else:
            self.sql(outdate.format(""))
        self.on_nodes("checkpoint")

    def prime(self, batches: list[Readings]) -> None:
        """Make the chunks that the batches go to, for whichever road is measured next."""
        days = sorted({int(b.ts[i]) // 86_400_000_000 for b in batches for i in (0, -1)})
        self.make_chunks(days)

    def make_chunks(self, days: list[int]) -> None:
        """Make the chunks of these days since 1970."""
        self.sql(
            "select telemetry.make_chunks(array(select to_timestamp(d) from unnest(%s::bigint[]) as d))",
            [day * 86_400 for day in days],
        )

    @contextlib.contextmanager
    def without_policies(self) -> Iterator[None]:
        """The database's own jobs pause, so that no refresh meets another."""
        if not self.has_columnstore:
            yield
            return
        for is_scheduled in (False, True):
            self.on_nodes(
                f"select alter_job(j.job_id, scheduled => {is_scheduled})"  # noqa: S608 - a bool
                " from timescaledb_information.jobs as j where j.hypertable_name is not null"
            )
            if not is_scheduled:
                yield

    async def refresh_rollups(self) -> None:
        """All of them, after whatever policy is at it."""
        async with await connect(self.runtime.superuser_url, application="bench") as connection:
            await refresh_rollups(connection, is_scheduled=False)

    def batch(self, readings: Readings) -> Batch:
        """As the writer gets them."""
        return Batch(
            sensor_id=self.sensor_ids[readings.sensor],
            metric_id=self.metric_ids[readings.metric],
            ts=readings.ts,
            value=readings.value,
            quality=np.full(len(readings), 2, dtype=np.int16),
        )

    def digest(self) -> tuple[int, int]:
        """How many readings there are, and a sum over all of them that no change leaves alone."""
        ((count, total),) = self.sql(
            "select count(*), coalesce(sum(hashint8extended(r.sensor_id, 1) # hashint8extended("
            " (extract(epoch from r.ts) * 1000000)::bigint, 2) # hashfloat8extended(r.value, 3)"
            " # hashint2extended(r.metric_id, 4))::numeric % 9007199254740993, 0)::bigint"
            " from telemetry.reading as r"
        )
        return int(count), int(total)

    # What runs

    def serve(self, **settings: str) -> Server:
        """A `headwater serve`."""
        return self._start(SERVE, settings)

    def serve_noop(self, **settings: str) -> Server:
        """The same that writes nothing."""
        return self._start(NOOP, settings)

    def _start(self, program: tuple[str, ...], settings: Mapping[str, str]) -> Server:
        folder = self.runtime.folder
        environment = {
            **self.runtime.environment(),
            "HEADWATER_STATE": str(folder.path),
            "HEADWATER_HOST": "127.0.0.1",
            **HIGH_LIMITS,
            **settings,
        }
        log = folder.log / f"server-{len(self._servers)}.log"
        self._servers.append(Server(program, environment, log))
        return self._servers[-1]

    def start_jobs(self) -> None:
        """The scheduled jobs, as a process of their own."""
        log = self.runtime.folder.log / "jobs.log"
        with log.open("ab") as output:
            self._jobs = subprocess.Popen(
                [sys.executable, "-c", "from app.cli import main; main()", "jobs"],
                env={**os.environ, **self.runtime.environment()},
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        """Stop what `serve` and `start_jobs` started."""
        if self._jobs is not None:
            self._jobs.kill()
            self._jobs.wait()
            self._jobs = None
        for server in self._servers:
            server.stop()
        self._servers.clear()


@contextlib.contextmanager
def world(
    *, sensors: int = 1_000, settings: Mapping[str, str] | None = None, workers: int | None = None
) -> Iterator[World]:
    """A fresh one, gone at the end; with `workers` a coordinator and so many of them."""
    try:
        find_program()
        with_redis = True
    except CommandError:
        with_redis = False
    machine = this_machine(Path("/tmp"))  # noqa: S108 - its free space
    tuned = settings_for(machine, PRELOAD, workers=workers or 0)
    chosen = {name: tuned[name] for name in TUNED} | dict(settings or {})
    with temporary(settings=chosen, with_redis=with_redis, workers=workers) as runtime:
        asyncio.run(migrate(runtime.superuser_url))
        made = World(runtime)
        try:
            made.make_fleet(sensors)
            yield made
        finally:
            made.stop()
