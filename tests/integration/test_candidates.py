"""Leaving readings out of the evaluation never changes an alert, whoever else writes or decides."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from app.db.pool import Connection
from app.ingest.batch import Batch
from app.ingest.road import Road
from app.live.hub import Hub
from app.live.subscription import Filter
from app.settings import Settings

MINUTE = 60_000_000
START = 1_780_000_000_000_000  # some instant of 2026, microseconds


class Plant:
    """A tenant with two sensors of one metric, and two API processes' writers; the first has a hub."""

    def __init__(self, url: str, writers: list[Road], hub: Hub) -> None:
        self.url = url
        self.writers = writers
        self.hub = hub
        self.sql("insert into identity.tenant (slug, title) values ('t', 't')")
        for uid in ("a", "b"):
            self.sql(f"insert into telemetry.sensor (tenant_id, uid) values (1, '{uid}')")
        self.limit(8)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def limit(self, value: float) -> None:
        self.sql(
            "insert into alert.threshold (tenant_id, metric_id, severity, side, limit_value)"
            f" values (1, 1, 'warning', 'high', {value})"
            " on conflict on constraint threshold_scope_key"
            " do update set limit_value = excluded.limit_value"
        )

    async def write(self, writer: int, sensor: int, readings: list[tuple[int, float]]) -> None:
        """(minute, value) through one of the writers, with the bands it has right now."""
        n = len(readings)
        table = self.writers[writer].bands.table
        batch = Batch(
            sensor_id=np.full(n, sensor, dtype=np.int64),
            metric_id=np.ones(n, dtype=np.int16),
            ts=np.array([START + minute * MINUTE for minute, _ in readings], dtype=np.int64),
            value=np.array([value for _, value in readings], dtype=np.float64),
            quality=np.full(n, 2, dtype=np.int16),
            band=None
            if table is None
            else np.full(n, table.line_of(1, None, sensor), dtype=np.int32),
            bands=table,
        )
        codes = await self.writers[writer].submit(batch)
        assert not codes.any()

    def episodes(self, sensor: int) -> list[tuple[Any, ...]]:
        return self.sql(
            "select state, opened_at, last_at, resolved_at, peak, reading_count from alert.episode"
            f" where sensor_id = {sensor} order by opened_at"
        )

    def candidate_count(self) -> int:
        return int(self.sql("select count(*) from alert.candidate")[0][0])


@pytest.fixture
async def plant(database: Any) -> AsyncIterator[Plant]:
    settings = msgspec.structs.replace(
        Settings(), ingest_database_url=database.url("headwater_ingest"), ingest_writers=1
    )
    async with AsyncConnectionPool(
        database.url("headwater_app"), connection_class=Connection, min_size=1
    ) as pool:
        hub = Hub(pool)
        hub.start()
        writers = [Road(settings, curious=hub), Road(settings)]
        for writer in writers:
            writer.start()
        yield Plant(database.url(), writers, hub)
        for writer in writers:
            await writer.stop()
        await hub.stop()


async def test_quiet_readings_are_left_out(plant: Plant) -> None:
    await plant.write(0, 1, [(0, 7)])  # knows nothing yet
    before = plant.candidate_count()
    await plant.write(0, 1, [(1, 7), (2, 8)])
    assert plant.candidate_count() == before


async def test_an_alert_opened_by_one_process_is_resolved_through_another(plant: Plant) -> None:
    await plant.write(1, 1, [(0, 7)])
    await plant.write(0, 1, [(1, 9)])
    await plant.write(1, 1, [(2, 7)])
    assert [row[0] for row in plant.episodes(1)] == ["resolved"]


async def test_the_process_that_raises_an_alert_tells_it_without_a_bell(plant: Plant) -> None:
    if plant.sql("select 1 from pg_extension where extname = 'citus'"):
        pytest.skip("where events have to be collected first, writers ask nothing")
    async with plant.hub.subscribe(Filter()) as subscription:
        await plant.write(0, 1, [(0, 7), (1, 9)])
        raised = await subscription.get(0)
        assert raised is not None and '"kind":"raised"' in raised.text
        await plant.write(1, 1, [(2, 7)])
        assert await subscription.get(0.2) is None
        plant.hub.ring()
        resolved = await subscription.get(5)
        assert resolved is not None and '"kind":"resolved"' in resolved.text


async def test_a_new_limit_counts_from_the_next_batch_on(plant: Plant) -> None:
    await plant.write(0, 1, [(0, 7), (1, 7)])
    plant.limit(6)
    await plant.write(0, 1, [(2, 7)])
    assert [row[0] for row in plant.episodes(1)] == ["open"]


async def test_an_alert_that_a_person_resolved_opens_again_on_the_next_violation(
    plant: Plant,
) -> None:
    await plant.write(0, 1, [(0, 7), (1, 9)])
    ((episode,),) = plant.sql("select episode_id from alert.episode")
    plant.sql(f"select alert.decide({episode}, 1, 'resolved', 'ann', null)")
    await plant.write(0, 1, [(2, 7)])
    ((evaluated_at,),) = plant.sql("select evaluated_at from alert.episode")
    plant.sql(f"update alert.episode set resolved_at = '{evaluated_at + timedelta(seconds=1)}'")
    await plant.write(0, 1, [(3, 9)])
    assert [row[0] for row in plant.episodes(1)] == ["resolved", "open"]


@pytest.mark.parametrize("seed", range(3))
async def test_two_processes_and_bands_give_the_same_episodes_as_one_batch(
    plant: Plant, seed: int
) -> None:
    rng = random.Random(seed)
    readings = [(minute, rng.choice([7.0, 7.0, 7.0, 8.5, 9.0])) for minute in range(120)]
    start = 0
    while start < len(readings):
        size = rng.randint(1, 6)
        await plant.write(rng.randint(0, 1), 1, readings[start : start + size])
        start += size
    await plant.write(0, 2, readings)
    assert plant.episodes(1) == plant.episodes(2)
    assert plant.episodes(1)
