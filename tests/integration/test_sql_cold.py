"""People's SQL over hot and cold readings: the same answers as if nothing had ever left."""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from fix_cold import (
    ASKED,
    BORDER,
    MOST_NOT_PLANNED,
    NOT_PLANNED,
    ColdWorld,
    alike,
    cold_world,
    in_order,
    is_told,
)
from fix_database import Server
from fix_server import serving


@pytest.fixture(scope="module")
def worlds(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ColdWorld, dict[str, Any]]]:
    """An archived world, and what it answered before."""
    with (
        cold_world(pg_server, pg_template, tmp_path_factory.mktemp("archive")) as world,
        serving(world.environment, world.archive.database.url()) as api,
    ):
        world.serve(api)
        before = {}
        for text in ASKED:
            answer = world.ask(text, limit=100_000)
            before[text] = answer.json()
            if pg_server.is_distributed and answer.json().get("sqlstate") == NOT_PLANNED:
                continue
            assert answer.status_code == 200, (text, answer.text)
            assert before[text]["engine"] == "postgresql"
        refused = [text for text in ASKED if before[text].get("sqlstate") == NOT_PLANNED]
        assert len(refused) <= MOST_NOT_PLANNED, refused
        world.archive_now()
        yield world, before


@pytest.fixture
def world(worlds: tuple[ColdWorld, dict[str, Any]]) -> ColdWorld:
    return worlds[0]


@pytest.mark.parametrize("text", ASKED)
def test_both_engines_say_the_same(worlds: tuple[ColdWorld, dict[str, Any]], text: str) -> None:
    world, before = worlds
    wanted = before[text]
    if wanted.get("sqlstate") == NOT_PLANNED:
        pytest.skip(f"Citus does not plan it: {wanted['reason']}")
    found = world.found(text, limit=100_000)
    assert found["columns"] == wanted["columns"]
    assert found["row_count"] == wanted["row_count"]
    if is_told(text):
        for mine, theirs in zip(
            in_order(text, found["rows"]), in_order(text, wanted["rows"]), strict=True
        ):
            assert alike(mine, theirs)
    if not any(part in text for part in ("now()", "false", "order by ts desc limit 10")):
        assert found["engine"] == "duckdb"


@pytest.mark.parametrize(
    ("where", "engine"),
    [
        ("true", "duckdb"),
        ("ts >= now() - interval '2 days'", "postgresql"),
        ("ts >= '{border}'", "postgresql"),
        ("ts > '{border}' and value > 3", "postgresql"),
        ("ts between '{border}' and now()", "postgresql"),
        ("'{border}' <= ts", "postgresql"),
        ("ts >= '{border}'::timestamptz - interval '1 second'", "duckdb"),
        ("ts >= '{border}' or value > 3", "duckdb"),
        ("not ts < '{border}'", "duckdb"),
        ("ts < '2026-02-01'", "postgresql"),
        ("ts <= '2026-03-01'", "duckdb"),
        ("date_trunc('day', ts) >= '{border}'", "duckdb"),
        ("ts >= (select max(ts) from latest)", "duckdb"),
    ],
)
def test_what_stays_hot_stays_in_the_database(world: ColdWorld, where: str, engine: str) -> None:
    text = where.replace("{border}", BORDER.isoformat())
    assert world.found(f"select count(*) from reading where {text}")["engine"] == engine


@pytest.mark.parametrize(
    ("beside", "engine"),
    [
        ("join sensor as s on s.sensor_id = r.sensor_id where ts > '{border}'", "postgresql"),
        ("join w using (sensor_id) where ts > '{border}'", "postgresql"),
        (
            "join (select sensor_id from w) as x using (sensor_id) where ts > '{border}'",
            "postgresql",
        ),
        ("join (select ts from latest) as x using (ts) where ts > '{border}'", "duckdb"),
        ("natural join w where ts > '{border}'", "duckdb"),
        ("left join w using (sensor_id) where value > 0", "duckdb"),
    ],
)
def test_a_bare_name_beside_another_source(world: ColdWorld, beside: str, engine: str) -> None:
    text = f"with w as (select sensor_id from sensor) select count(*) from reading as r {beside}"
    answer = world.found(text.replace("{border}", BORDER.isoformat()))
    assert answer["engine"] == engine


def test_a_bare_name_of_two_sources_is_refused(world: ColdWorld) -> None:
    text = "with w as (select ts from latest) select count(*) from reading, w where ts > now()"
    answer = world.ask(text)
    assert answer.status_code == 422 and "ambiguous" in answer.json()["detail"], answer.text


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("select * from reading order by ts desc limit 10", "postgresql"),
        (
            "select r.* from reading as r where quality = 2 order by r.ts desc"
            " offset 3 fetch first 2 rows only",
            "postgresql",
        ),
        ("select x.ts from (select ts from reading order by ts desc limit 3) as x", "postgresql"),
        ("select * from reading order by ts desc limit 100000", "duckdb"),
        ("select * from reading order by ts limit 10", "duckdb"),
        ("select max(value) from reading order by 1 desc limit 10", "duckdb"),
        ("select - value as ts from reading order by ts desc limit 10", "duckdb"),
        ("select distinct ts from reading order by ts desc limit 10", "duckdb"),
        ("select ts from reading where random() < 2 order by ts desc limit 10", "duckdb"),
    ],
)
def test_the_newest_readings_are_in_the_database(world: ColdWorld, text: str, engine: str) -> None:
    assert world.found(text, limit=100_000)["engine"] == engine


def test_rollups_and_names_need_no_archive(world: ColdWorld) -> None:
    for view in ("reading_1h", "reading_1d", "sensor", "latest", "alert", "metric"):
        assert world.found(f"select count(*) from {view}")["engine"] == "postgresql"
    hidden = "with reading as (select 1 as n) select * from reading"
    assert world.found(hidden)["engine"] == "postgresql"
    both = "select (select count(*) from reading where ts > now()), (select count(*) from reading)"
    assert world.found(both)["engine"] == "duckdb"
    by_parameter = world.found("select count(*) from reading where ts >= $1", params=["2026-03-04"])
    assert by_parameter["engine"] == "postgresql"


def test_forms_and_headers(world: ColdWorld) -> None:
    text = "select ts, value, sensor_id, interval '1 day' as wide from reading order by ts limit 2"
    csv = world.ask(text, headers={"Accept": "text/csv"})
    assert csv.headers["headwater-engine"] == "duckdb"
    assert '"cold_files":3' in csv.headers["headwater-scanned"]
    assert csv.text.splitlines()[0] == "ts,value,sensor_id,wide"
    arrow = world.ask(text, headers={"Accept": "application/vnd.apache.arrow.stream"})
    table = pa.ipc.open_stream(io.BytesIO(arrow.content)).read_all()
    assert table.schema.field("ts").type == pa.timestamp("us", "UTC")
    assert table.schema.field("sensor_id").type == pa.int64()
    assert table.num_rows == 2
    cut = world.found("select * from reading", limit=10)
    assert (cut["row_count"], cut["truncated"]) == (10, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("select histogram(value, 0, 10, 5) from reading", "histogram()"),
        ("select to_char(ts, 'Day') from reading", "this form of to_char()"),
        ("select json_agg(value) from reading", "a column of type json"),
        ("select value::numeric::text::varchar(3) from reading", "a cast to varchar(3)"),
        ("select regexp_replace('a', 'a|b', 'c') from reading", "this form of regexp_replace()"),
        ("select reading from reading", "a column of type"),
        ("select array_agg(quality)::text from reading", "no text of a list"),
    ],
)
def test_what_has_no_equal_is_refused_with_a_way_out(
    world: ColdWorld, text: str, reason: str
) -> None:
    answer = world.ask(text)
    assert answer.status_code == 422
    body = answer.json()
    assert body["type"] == "/problems/query-refused"
    assert reason in body["detail"]
    if "no text" not in reason:
        assert "add ts >= '2026-03-04T00:00:00Z'" in body["detail"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select value / (quality - quality) from reading", "division by zero"),
        ("select nothing from reading", "does not exist"),
        ("select count(*) from reading where ts > 'someday'", "invalid input syntax"),
        ("select sensor_id from reading group by metric_id", "must appear in the GROUP BY"),
        ("select ts + value from reading", "operator does not exist"),
    ],
)
def test_errors_are_the_databases(world: ColdWorld, text: str, said: str) -> None:
    answer = world.ask(text)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
