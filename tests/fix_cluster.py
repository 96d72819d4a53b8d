"""A coordinator, two workers and a third server that is none yet, with readings of every kind.

Eight days: the oldest is cold (its chunks are gone, its rollups all there is of it), the others are in
the columnstore but for the newest. Each test has clones of the databases.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import psycopg
import pytest
from click.testing import CliRunner, Result
from fix_database import ROLES, Database, Node, Server, running

from app.cli import group
from app.db.pool import connect
from app.local import nodes
from app.migrate import migrate
from jobs.rollup import refresh_rollups

SENSORS = 24
WORKERS = 2
WIDTHS = {"1m": "1 minute", "1h": "1 hour", "1d": "1 day"}
TABLES = (
    *("telemetry.reading", "telemetry.latest_reading", "telemetry.ingest_log"),
    *("alert.episode", "alert.outbox_shard", "alert.candidate"),
)
FILL = """
insert into identity.tenant (slug, title) values ('t', 'T');
insert into telemetry.sensor (tenant_id, uid)
select 1, 's' || s from generate_series(1, {sensors}) as s;
insert into alert.threshold (tenant_id, metric_id, severity, side, limit_value)
values (1, 1, 'warning', 'high', 9);
insert into telemetry.reading (sensor_id, ts, value, metric_id, quality)
select s.sensor_id, t, 7 + sin(s.sensor_id + extract(epoch from t) / 3e4), 1, 2 + (s.sensor_id % 3)
from telemetry.sensor as s
cross join generate_series(
    date_trunc('day', now()) - interval '7 days', now() - interval '1 minute', interval '10 minutes'
) as t;
insert into telemetry.latest_reading (sensor_id, metric_id, ts, value, quality)
select distinct on (sensor_id) sensor_id, metric_id, ts, value, quality
from telemetry.reading order by sensor_id, ts desc;
insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)
select sensor_id, min(ts), max(ts), count(*) from telemetry.reading group by sensor_id;
insert into alert.candidate (sensor_id, ts, value, metric_id)
select sensor_id, max(ts), 9.5, 1 from telemetry.reading group by sensor_id;
"""
# what time does with days, and the archive with the oldest
COMPRESS = (
    "select count(*) from (select compress_chunk(c, true)"
    " from show_chunks('telemetry.reading_{shard}', older_than => interval '1 day') as c) as q"
)
DROP = (
    "select count(*) from (select drop_chunks('telemetry.reading_{shard}',"
    " older_than => date_trunc('day', now()) - interval '6 days')) as q"
)
EXPORT = """
insert into archive.export (export_id, range_from, range_to, is_late, state)
overriding system value
values (1, date_trunc('day', now()) - interval '7 days',
    date_trunc('day', now()) - interval '6 days', false, 'dropped')
"""
STOP_JOBS = (
    "select alter_job(job_id, scheduled => false)"
    " from timescaledb_information.jobs where job_id >= 1000"
)
START_JOBS = (
    "select alter_job(job_id, scheduled => true, config => case"
    " when proc_name = 'policy_refresh_continuous_aggregate' then jsonb_set(config, '{start_offset}',"
    " to_jsonb((now() - date_trunc('day', now()) + interval '6 days')::text)) else config end)"
    " from timescaledb_information.jobs where job_id >= 1000"
)


class Cluster(Database):
    """A distributed database on the coordinator, two workers, and the name on a third server."""

    server: Server

    @property
    def workers(self) -> list[Node]:
        """Two workers, and the server that may become one."""
        return self.server.workers

    def worker_at(self, port: int) -> Node:
        """The one of them that listens there."""
        return next(node for node in self.workers if node.port == port)

    def address(self, node: Node) -> str:
        """As commands want it."""
        return f"127.0.0.1:{node.port}"

    def on(self, node: Node, statement: str) -> list[tuple[Any, ...]]:
        """A statement on one node."""
        return node.execute(statement, self.name)

    def headwater(self, *words: str) -> Result:
        """A `headwater cluster` command in this process."""
        runner = CliRunner(env={"OWNER_DATABASE_URL": self.url()})
        return runner.invoke(group, ["cluster", *words])

    def does(self, *words: str) -> str:
        """A command that succeeds; what it says."""
        done = self.headwater(*words)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    def status(self) -> dict[str, Any]:
        """What the cluster says of itself."""
        answer: dict[str, Any] = msgspec.json.decode(self.headwater("status", "--json").output)
        return answer

    def groups(self) -> dict[int, int]:
        """Group -> port of its node."""
        rows = self.execute(
            "select s.shardid, n.nodeport from pg_dist_shard as s"
            " join pg_dist_placement as p using (shardid) join pg_dist_node as n using (groupid)"
            " where s.logicalrelid = 'telemetry.reading'::regclass"
        )
        return dict(rows)  # type: ignore[arg-type]

    def group_of(self, sensor_id: int) -> int:
        """The group that has a sensor's readings."""
        ((shard_id,),) = self.execute(
            f"select get_shard_id_for_distribution_column('telemetry.reading', {sensor_id})"
        )
        assert isinstance(shard_id, int)
        return shard_id

    def digest(self, table: str, where: str = "true") -> tuple[object, ...]:
        """Number and checksum of its rows."""
        (row,) = self.execute(
            f"select count(*), sum(hash_record_extended(t, 0)) from {table} as t where {where}"
        )
        return row

    def digests(self) -> dict[str, tuple[object, ...]]:
        """Of all tables that are spread."""
        return {table: self.digest(table) for table in TABLES}

    def cold(self) -> list[tuple[object, ...]]:
        """All rollups of the cold day."""
        ((until,),) = self.execute("select archive.hot_from()")
        rows = []
        for name in WIDTHS:
            rows += self.execute(
                f"select '{name}', r.* from telemetry.rollup_{name} as r"
                f" where r.bucket < '{until}' order by 2, 3, 4"
            )
        return rows

    def wrong_rollups(self, until: str = "'infinity'") -> dict[str, object]:
        """Buckets of hot days that are not what the readings make of them."""
        found = {}
        for name, width in WIDTHS.items():
            ((found[name],),) = self.execute(
                f"""
                select count(*)
                from (
                    select sensor_id, metric_id, time_bucket('{width}', ts) as bucket,
                        count(*) as n, sum(value) as value_sum, min(value) as value_min,
                        count(*) filter (where quality = 3) as n_suspect
                    from telemetry.reading group by 1, 2, 3
                ) as raw
                full join (
                    select * from telemetry.rollup_{name}
                    where bucket >= date_trunc('day', now()) - interval '6 days'
                ) as r using (sensor_id, metric_id, bucket)
                where ((raw.n, raw.value_min, raw.n_suspect)
                        is distinct from (r.n, r.value_min, r.n_suspect)
                    or abs(raw.value_sum - r.value_sum) > 1e-9 * raw.n)
                    and bucket < {until}
                """
            )
        return found

    def remains(self, node: Node, shard_id: int) -> list[tuple[Any, ...]]:
        """Whatever a node still has of a group."""
        return self.on(
            node,
            f"""
            with ids as (
                select s.shardid from pg_dist_shard as s
                join pg_dist_partition as p on p.logicalrelid = s.logicalrelid and p.partmethod = 'h'
                join pg_dist_shard as a on a.shardminvalue = s.shardminvalue
                where a.shardid = {shard_id}
            ),
            named as (
                select oid::regclass::text as name from pg_class
                union all select proname from pg_proc
                union all select shard_id::text from ops.applied
                union all select '_' || user_view_name from _timescaledb_catalog.continuous_agg
                union all select '_' || hypertable_name from timescaledb_information.jobs
                union all select tgname from pg_trigger
            )
            select name from named join ids on name ~ ('(^|_)' || shardid || '$')
            """,
        )

    def assert_whole(self) -> None:
        """Every group is what a group must be, nothing is left of moves, nothing is fenced."""
        status = self.status()
        assert status["is_complete"], status
        assert status["moves"] == []
        places = self.groups()
        for node in self.workers:
            for shard_id, port in places.items():
                if port != node.port:
                    assert self.remains(node, shard_id) == [], f"left on {node.name}"
            assert self.on(node, "select * from ops.fenced_shards()") == []
            mine = sum(port == node.port for port in places.values())
            ((tables, aggregates),) = self.on(
                node,
                "select (select count(*) from timescaledb_information.hypertables"
                " where hypertable_name like 'reading%'),"
                " (select count(*) from timescaledb_information.continuous_aggregates)",
            )
            assert (tables, aggregates) == (mine, 3 * mine)
        assert self.execute("select * from pg_dist_cleanup") == []
        assert set(self.jobs_that_stand_still().values()) == {0}

    def assert_as_before(self, cold: list[tuple[object, ...]]) -> None:
        """Whole, without remains, and with every rollup."""
        self.refresh()
        assert self.cold() == cold
        assert self.wrong_rollups() == {"1m": 0, "1h": 0, "1d": 0}
        self.assert_whole()

    def refresh(self) -> None:
        """Bring the rollups up to date, after whoever is at it."""

        async def run() -> None:
            async with await connect(self.url(), application="test") as connection:
                await refresh_rollups(connection, is_scheduled=False)

        asyncio.run(run())

    def jobs_that_stand_still(self) -> dict[str, int]:
        """Policies that are not scheduled, by node."""
        return {
            node.name: self.on(
                node,
                "select count(*)::int from timescaledb_information.jobs"
                " where job_id >= 1000 and not scheduled",
            )[0][0]
            for node in self.workers
        }


@pytest.fixture(scope="session")
def cluster_server() -> Iterator[Server]:
    """A coordinator and three servers."""
    with running(WORKERS + 1) as server:
        yield server


def make_template(server: Server, name: str) -> None:
    """A filled cluster of two workers that nobody connects to."""
    server.everywhere(
        f"create database {name}",
        *(f"create role {role} login password '{server.password}'" for role in ROLES),
    )
    server.execute(f"alter database {name} set citus.shard_count = 4")
    workers = server.workers[:WORKERS]
    with ExitStack() as stack:
        places = [
            stack.enter_context(psycopg.connect(node.url(name), autocommit=True))
            for node in (server, *workers)
        ]
        for place in places:
            nodes.make_extensions(place)
        nodes.join(places[0], places[1:])
    asyncio.run(migrate(server.url(name)))
    with psycopg.connect(server.url(name), autocommit=True) as conn:
        for statement in filter(str.strip, FILL.format(sensors=SENSORS).split(";")):
            conn.execute(statement)  # type: ignore[arg-type]
        row = conn.execute("select current_setting('timescaledb.license')").fetchone()
        is_community = row == ("timescale",)
        if is_community:
            for node in workers:
                node.execute(STOP_JOBS, name)
            on_shards(conn, COMPRESS)
        for (step,) in conn.execute("select telemetry.rollup_refresh_steps(false)").fetchall():
            conn.execute(step)
        conn.execute(EXPORT)
        on_shards(conn, DROP)
        if is_community:
            for node in workers:
                node.execute(START_JOBS, name)
        # the last of a group's numbers must not come again
        conn.execute(
            "delete from alert.episode where episode_id = any(array("
            " select max(episode_id) from alert.episode group by episode_id / 68719476736))"
        )
    server.close(name)


def on_shards(conn: psycopg.Connection[Any], command: str) -> None:
    """A statement on every group; a policy that had begun may be in its way for a moment."""
    for attempt in range(10):
        try:
            conn.execute("select * from ops.on_shards(%s)", [command])
            return
        except (psycopg.errors.RaiseException, psycopg.errors.LockNotAvailable):
            if attempt == 9:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="session")
def cluster_template(cluster_server: Server) -> str:
    """A name that can be cloned."""
    make_template(cluster_server, "cluster_template")
    return "cluster_template"


@pytest.fixture
def cluster(cluster_server: Server, cluster_template: str) -> Iterator[Cluster]:
    """The filled cluster, a test's own."""
    for node in cluster_server.nodes:
        if node.cluster.pid is None:
            node.start()
    name = cluster_server.create(cluster_template)
    # a clone's sequences go back where its server dies before the first checkpoint
    cluster_server.everywhere("checkpoint")
    yield Cluster(cluster_server, name)
    for node in cluster_server.nodes:
        if node.cluster.pid is None:
            node.start()
    for attempt in range(5):
        try:
            cluster_server.drop(name)
            break
        except psycopg.errors.ObjectInUse:  # a policy's worker that takes its time
            assert attempt < 4
            time.sleep(1)
