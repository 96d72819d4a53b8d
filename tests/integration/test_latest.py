"""Newest values come behind the readings; those that somebody waits for come first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest
from fix_database import Database
from psycopg import AsyncConnection

from app.ingest.batch import Batch
from app.ingest.latest import LatestKeeper
from app.ingest.shard import Target

T0 = 1_780_000_000_000_000


@pytest.fixture
def sensors(database: Database) -> list[int]:
    """Two that have sent before."""
    database.execute("insert into identity.tenant (slug, title) values ('a', 'A')")
    database.execute(
        "insert into telemetry.sensor (tenant_id, uid)"
        " select t.tenant_id, format('s%s', n) from identity.tenant as t, generate_series(1, 2) as n"
        " where t.slug = 'a'"
    )
    database.execute(
        "insert into telemetry.latest_reading (sensor_id, metric_id, ts, value, quality)"
        " select s.sensor_id, 1, '2026-01-01Z', 0, 1 from telemetry.sensor as s"
    )
    found = database.execute("select s.sensor_id from telemetry.sensor as s order by s.uid")
    return [int(str(row[0])) for row in found]


def readings(sensors: list[int], value: float) -> Batch:
    n = len(sensors)
    return Batch(
        sensor_id=np.array(sensors, dtype=np.int64),
        metric_id=np.ones(n, dtype=np.int16),
        ts=np.full(n, T0 + int(value), dtype=np.int64),
        value=np.full(n, value),
        quality=np.ones(n, dtype=np.int16),
    )


def values(database: Database) -> list[object]:
    rows = database.execute(
        "select l.value from telemetry.latest_reading as l order by l.sensor_id"
    )
    return [row[0] for row in rows]


@asynccontextmanager
async def keeping(database: Database, *, interval: float = 1.0) -> AsyncIterator[LatestKeeper]:
    """A keeper at work."""
    keeper = LatestKeeper(database.url(), {0: Target()}, interval=interval)
    keeper.start()
    try:
        yield keeper
    finally:
        await keeper.stop()


def test_who_waits_for_a_sensor_does_not_wait_for_the_others(
    database: Database, sensors: list[int]
) -> None:
    mine, other = sensors

    async def run() -> None:
        async with keeping(database) as keeper:
            keeper.note(readings(sensors, 1.0))
            await keeper.flush()
            assert values(database) == [1.0, 1.0]
            async with await AsyncConnection.connect(database.url()) as blocker:
                await blocker.execute(
                    "select from telemetry.latest_reading where sensor_id = %s for update", [other]
                )
                keeper.note(readings(sensors, 2.0))
                async with asyncio.timeout(5):
                    await keeper.flush([mine], patience=30)
                assert values(database) == [2.0, 1.0]
                await blocker.rollback()
            await keeper.flush(patience=30)
            assert values(database) == [2.0, 2.0]

    asyncio.run(run())


def test_many_are_written_in_parts_while_more_come(
    database: Database, sensors: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ingest.latest.LEAST_AT_ONCE", 1)

    async def run() -> None:
        async with keeping(database, interval=0.0) as keeper:
            for value in range(1, 30):
                keeper.note(readings(sensors, float(value)))
                if value % 3 == 0:
                    await keeper.flush(sensors[:1])
                    assert values(database)[0] == value
            await keeper.flush()
            assert values(database) == [29.0, 29.0]

    asyncio.run(run())


def test_a_failed_write_keeps_who_waits(database: Database, sensors: list[int]) -> None:
    async def run() -> None:
        async with keeping(database) as keeper:
            keeper.note(readings(sensors, 1.0))
            await keeper.flush()
            with psycopg.connect(database.url(), autocommit=True) as line:
                line.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'headwater-latest' and datname = current_database()"
                )
            keeper.note(readings(sensors, 2.0))
            await keeper.flush(sensors, patience=30)
            assert values(database) == [2.0, 2.0]

    asyncio.run(run())
