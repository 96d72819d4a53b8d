"""What a question of a few sensors reads: their rows alone, also where rollups are not up to date yet."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fix_database import Database
from psycopg import AsyncConnection, AsyncCursor

from app.read import lookup
from app.read.lookup import selected
from app.read.series import Selection, readings_rollup

READINGS = 40
"""Of each sensor, none of them rolled up yet."""
ASKED = 2 * READINGS
ALL_TASKS = "-c citus.explain_all_tasks=on"

Plan = dict[str, Any]


class Explained(AsyncCursor[Any]):
    """Runs a plan and keeps it instead of the rows."""

    plan: Any = None

    async def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        await super().execute(b"explain (analyze, format json) " + query.encode(), params, **more)
        assert self.pgresult is not None
        Explained.plan = json.loads(self.pgresult.get_value(0, 0) or b"")
        return self

    async def fetchall(self) -> list[Any]:
        return []


@pytest.fixture
def weir(database: Database) -> Database:
    """A site with two sensors, and a neighbour of another tenant with fifty times as many."""
    for statement in (
        "insert into identity.tenant (tenant_id, slug, title) overriding system value"
        " values (901, 'a', 'A'), (902, 'b', 'B')",
        "insert into telemetry.site (tenant_id, code, title)"
        " values (901, 'weir', 'Weir'), (901, 'empty', 'Empty')",
        "insert into telemetry.sensor (tenant_id, site_id, uid)"
        " select 901, p.site_id, format('s%s', n) from telemetry.site as p, generate_series(1, 2) as n"
        " where p.code = 'weir'",
        "insert into telemetry.sensor (tenant_id, uid)"
        " select 902, format('n%s', n) from generate_series(1, 100) as n",
        "insert into telemetry.reading (ts, sensor_id, metric_id, value)"
        " select date_trunc('hour', now()) - n * interval '1 minute', s.sensor_id, 1, 7"
        f" from telemetry.sensor as s, generate_series(1, {READINGS}) as n",
    ):
        database.execute(statement)
    return database


def nodes(plan: Any) -> Iterator[Plan]:
    """Every node of a plan, those on workers included."""
    if isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from nodes(part)


def rows_read(plan: Any) -> int:
    """What the scans of chunks yield: readings and buckets."""
    return sum(
        int(node["Actual Rows"] * node["Actual Loops"])
        for node in nodes(plan)
        if node.get("Relation Name", "").startswith("_hyper_")
    )


def selection(url: str, **filters: list[str]) -> Selection:
    """As GET /api/v1/readings resolves its filters."""

    async def run() -> Selection:
        async with await AsyncConnection.connect(url) as line:
            named = {"sensors": [], "sites": [], "metrics": []} | filters
            return await selected(line, 901, **named)

    return asyncio.run(run())


def rollup_plan(url: str, of: Selection, resolution: str) -> Any:
    """How the rollup of the last day is read."""

    async def run() -> None:
        async with await AsyncConnection.connect(
            url, cursor_factory=Explained, options=ALL_TASKS
        ) as line:
            now = datetime.now(UTC)
            await readings_rollup(
                line,
                selection=of,
                resolution=resolution,
                after=(now - timedelta(days=2), -1, -1),
                to_ts=now,
                count=1_000,
            )

    asyncio.run(run())
    return Explained.plan


@pytest.mark.parametrize("resolution", ["1m", "1h", "1d"])
@pytest.mark.parametrize("filters", [{"sites": ["weir"]}, {}, {"sensors": ["s1", "s2"]}])
def test_a_rollup_aggregates_the_readings_of_those_asked_for(
    weir: Database, resolution: str, filters: dict[str, list[str]]
) -> None:
    plan = rollup_plan(weir.url(), selection(weir.url(), **filters), resolution)
    assert rows_read(plan) == ASKED


def test_a_site_without_sensors_has_no_readings(weir: Database) -> None:
    found = selection(weir.url(), sites=["empty"])
    assert found.sensor_ids == []
    assert rows_read(rollup_plan(weir.url(), found, "1d")) == 0


def test_many_sensors_are_left_to_the_join(weir: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MOST_IDS", 1)
    found = selection(weir.url(), sites=["weir"])
    assert found.sensor_ids is None
    plan = rollup_plan(weir.url(), found, "1m")
    assert next(nodes(plan))["Actual Rows"] == ASKED


@pytest.mark.parametrize("schema", ["analytics", "tenant"])
@pytest.mark.parametrize("view", ["reading_1m", "reading_1h", "reading_1d"])
def test_sql_that_names_sensors_in_an_array_reads_theirs_alone(
    weir: Database, schema: str, view: str
) -> None:
    statement = (
        f"select r.sensor_id, max(r.value_max) from {schema}.{view} as r"
        " where r.sensor_id = any (array("
        f"select s.sensor_id from {schema}.sensor as s where s.site = 'weir'))"
        " and r.bucket >= now() - interval '2 days' group by r.sensor_id"
    )
    with psycopg.connect(weir.url(), autocommit=True, options=ALL_TASKS) as line:
        if schema == "tenant":
            line.execute("select set_config('headwater.pass', identity.sql_pass(901), false)")
            line.execute("set session authorization headwater_sql")
        assert len(line.execute(statement.encode()).fetchall()) == 2
        ((plan,),) = line.execute(b"explain (analyze, format json) " + statement.encode())
    assert rows_read(plan) <= ASKED, plan
