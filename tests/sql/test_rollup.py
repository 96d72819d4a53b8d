"""Rollups equal the raw aggregation, whatever fills them and whatever happened on the way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from build import World, at
from fix_database import Database
from psycopg import AsyncConnection

import jobs.rollup
from app.errors import CommandError
from jobs.rollup import refresh_rollups

WIDTH = {"1m": "1 minute", "1h": "1 hour", "1d": "1 day"}

# the same aggregation, straight from the readings; sums may differ in the last digit by order
DIFFERENCES = """
with raw as (
    select
        sensor_id, metric_id, time_bucket(interval '{width}', ts) as bucket, count(*) as n,
        avg(value) as value_avg, min(value) as value_min, max(value) as value_max,
        sum(value) as value_sum, sum(value * value) as value_sum_sq,
        (array_agg(value order by ts))[1] as value_first,
        (array_agg(value order by ts desc))[1] as value_last,
        count(*) filter (where quality = 3) as n_suspect,
        count(*) filter (where quality = 4) as n_fail
    from telemetry.reading
    group by 1, 2, 3
)
select count(*) as n
from raw
full join analytics.reading_{name} as r using (sensor_id, metric_id, bucket)
where (raw.n, raw.value_min, raw.value_max, raw.value_first, raw.value_last, raw.n_suspect, raw.n_fail)
        is distinct from
        (r.n, r.value_min, r.value_max, r.value_first, r.value_last, r.n_suspect, r.n_fail)
    or abs(raw.value_sum - r.value_sum) > 1e-12 * greatest(abs(raw.value_sum), 1)
    or abs(raw.value_sum_sq - r.value_sum_sq) > 1e-12 * greatest(abs(raw.value_sum_sq), 1)
    or abs(raw.value_avg - r.value_avg) > 1e-12 * greatest(abs(raw.value_avg), 1)
"""


class Rollups(World):
    """Readings that need no judging, and the comparison."""

    def fill(self, seed: int, hours: tuple[float, float], n: int = 3000) -> None:
        """Random readings of three sensors, logged as the writer logs them."""
        rng = random.Random(seed)
        rows = {
            (at(rng.uniform(hours[0], hours[1]) * 60), rng.randint(1, 3), rng.randint(1, 2)): (
                round(rng.uniform(-5, 30), 2),
                rng.choice([2, 2, 2, 3, 4]),
            )
            for _ in range(n)
        }
        with self.db.transaction(), self.db.cursor() as cursor:
            with cursor.copy(
                "copy telemetry.reading (ts, sensor_id, metric_id, value, quality) from stdin"
            ) as copy:
                for key, rest in rows.items():
                    copy.write_row((*key, *rest))
            cursor.execute(
                "insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)"
                " select sensor_id, min(ts), max(ts), count(*)"
                " from unnest(%s::bigint[], %s::timestamptz[]) as r (sensor_id, ts)"
                " group by sensor_id, date_trunc('day', ts, 'UTC')",
                ([key[1] for key in rows], [key[0] for key in rows]),
            )

    def refresh(self) -> None:
        """Run the edition's own steps, as the job does."""

        async def run() -> None:
            async with await session(self.url) as connection:
                await refresh_rollups(connection, is_scheduled=False)

        asyncio.run(run())

    def steps(self) -> list[tuple[str]]:
        """Statements, each outside a transaction."""
        rows = self.all("select s from telemetry.rollup_refresh_steps(false) as s")
        return [(row["s"],) for row in rows]

    def differences(self) -> dict[str, int]:
        """Buckets that differ from the raw aggregation, by rollup."""
        return {
            name: self.one(DIFFERENCES.format(name=name, width=width))["n"]
            for name, width in WIDTH.items()
        }


NONE = {"1m": 0, "1h": 0, "1d": 0}


@pytest.fixture
def rollups(database: Any) -> Iterator[Rollups]:
    world = Rollups(database.url())
    yield world
    world.db.close()


def test_unrefreshed_rollups_are_computed_from_the_readings(rollups: Rollups) -> None:
    rollups.fill(1, (0, 50))
    assert rollups.differences() == NONE


def test_refreshed_rollups_equal_raw(rollups: Rollups) -> None:
    rollups.fill(1, (0, 50))
    rollups.refresh()
    assert rollups.differences() == NONE
    rows = rollups.all("select sum(n) as n from analytics.reading_1d")
    assert rows == rollups.all("select count(*) as n from telemetry.reading")


def test_late_readings_are_taken_in_by_the_next_refresh(rollups: Rollups) -> None:
    rollups.fill(1, (24, 72))
    rollups.refresh()
    rollups.fill(2, (0, 60), n=200)  # older than everything, and among what is there
    rollups.refresh()
    assert rollups.differences() == NONE


def test_new_readings_show_without_a_refresh(rollups: Rollups) -> None:
    now_hours = (rollups.one("select now() as now")["now"] - at(0)) / timedelta(hours=1)
    rollups.fill(1, (now_hours - 30, now_hours - 3))
    rollups.refresh()
    rollups.fill(2, (now_hours - 0.005, now_hours), n=20)
    assert rollups.differences() == NONE


def test_a_killed_refresh_is_made_good_by_the_next(rollups: Rollups, database: Any) -> None:
    rollups.fill(1, (0, 24 * 20), n=60_000)
    with psycopg.connect(database.url(), autocommit=True) as victim:
        victim.execute("set application_name = 'victim'")
        pid = victim.info.backend_pid
        import threading

        def run() -> None:
            try:
                for (step,) in rollups_steps:
                    victim.execute(step)
            except psycopg.Error:
                killed.append(True)

        killed: list[bool] = []
        rollups_steps = rollups.steps()
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.25)
        rollups.db.execute("select pg_terminate_backend(%s::integer)", (pid,))
        thread.join()
    assert killed, "the refresh was done before it could be killed"
    rollups.refresh()
    assert rollups.differences() == NONE


def test_refreshing_twice_changes_nothing(rollups: Rollups) -> None:
    rollups.fill(1, (0, 50))
    rollups.refresh()
    before = rollups.all("select * from analytics.reading_1h order by 1, 2, 3")
    rollups.refresh()
    assert rollups.all("select * from analytics.reading_1h order by 1, 2, 3") == before


# a table of stored minutes, on a node that has some
MINUTES = """
select coalesce(
    (
        select min(
            format('%I.%I', c.materialization_hypertable_schema, c.materialization_hypertable_name)
        )
        from timescaledb_information.continuous_aggregates as c
        where c.view_name::text like 'rollup_1m%'
    ),
    (
        select min(c.oid::regclass::text)
        from pg_class as c
        where c.relname ~ '^rollup_1m_stored(_[0-9]+)?$'
    )
)
"""
WAITING = "select count(*) from pg_locks where not granted"


@asynccontextmanager
async def refresh_under_way(database: Database) -> AsyncIterator[AsyncExitStack]:
    """A refresh that has begun and can't go on until the stack is closed."""
    url = list(database.urls().values())[-1]  # of one group of shards, where there are some
    async with AsyncExitStack() as held, await session(database.url()) as other:
        holder = await held.enter_async_context(await session(url))
        looker = await held.enter_async_context(await session(url))
        await holder.execute("set citus.override_table_visibility = off")
        ((table,),) = await (await holder.execute(MINUTES)).fetchall()
        await held.enter_async_context(holder.transaction())
        await holder.execute(f"lock table {table} in share mode")
        refresh = asyncio.create_task(refresh_rollups(other, is_scheduled=False))
        while await (await looker.execute(WAITING)).fetchone() == (0,):
            assert not refresh.done()
            await asyncio.sleep(0.02)
        yield held
        await held.aclose()
        await refresh


async def session(url: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(url, autocommit=True)


def test_a_refresh_beside_another_waits_for_it(rollups: Rollups, database: Database) -> None:
    rollups.fill(1, (0, 50))

    async def run() -> None:
        async with refresh_under_way(database) as held, await session(database.url()) as mine:
            refresh = asyncio.create_task(refresh_rollups(mine, is_scheduled=False))
            await asyncio.wait([refresh], timeout=0.5)
            assert not refresh.done()
            await held.aclose()
            await refresh

    asyncio.run(run())
    assert rollups.differences() == NONE


@pytest.mark.community
def test_a_refresh_does_not_wait_for_ever(
    rollups: Rollups, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.rollup, "PATIENCE_SECONDS", 1.0)
    rollups.fill(1, (0, 50))

    async def run() -> None:
        async with refresh_under_way(database), await session(database.url()) as mine:
            with pytest.raises(CommandError, match=r"concurrent refresh.*not ended in 1 s"):
                await refresh_rollups(mine, is_scheduled=False)

    asyncio.run(run())


@pytest.mark.community
def test_policies_take_a_day_of_minutes_at_once(database: Database) -> None:
    nodes = list(database.urls().values())
    if database.server.is_distributed:
        del nodes[0]
    for url in nodes:
        with psycopg.connect(url) as connection:
            found = connection.execute(
                "select distinct regexp_replace(hypertable_name, '_[0-9]+$', ''),"
                " (config ->> 'buckets_per_batch')::integer from timescaledb_information.jobs"
                " where proc_name = 'policy_refresh_continuous_aggregate'"
            )
            assert dict(found) == {"rollup_1m": 1440, "rollup_1h": 744, "rollup_1d": 366}
            starts = connection.execute(
                "select fixed_schedule, initial_start"
                " from timescaledb_information.jobs"
                " where proc_name = 'policy_refresh_continuous_aggregate'"
            ).fetchall()
            assert all(is_fixed for is_fixed, _ in starts), "a failed run waits ever longer"
            assert len({start for _, start in starts}) == 3, "two are at it together"
