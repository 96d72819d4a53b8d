"""People's SQL for real: queries are answered, attacks show nobody else's rows and change nothing."""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pyarrow as pa
import pytest
import websockets.sync.client
from click.testing import CliRunner, Result
from fix_database import Database, Server
from fix_server import Api, environment_of, now, row, serving
from fix_sql import MARK, QUERIES, World, is_clean

from app.cli import group
from app.query.words import TABLES

PATIENCE = 60.0


@pytest.fixture(scope="module")
def world(pg_server: Server, pg_template: str) -> Iterator[World]:
    database = Database(pg_server, pg_server.create(pg_template))
    settings = environment_of(database) | {"SQL_TIMEOUT_SECONDS": "5"}
    try:
        with serving(settings, database.url()) as api:
            yield World(api)
    finally:
        pg_server.drop(database.name)


# honest queries


@pytest.mark.parametrize("statement", QUERIES)
def test_an_analysts_query_is_answered(world: World, pg_server: Server, statement: str) -> None:
    sets = ("grouping sets", "rollup (", "cube (")
    if pg_server.is_distributed and any(word in statement for word in sets):
        pytest.skip("Citus groups distributed rows by no sets")
    answer = world.ask(statement)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["row_count"] == len(found["rows"])
    assert found["engine"] == "postgresql"
    assert is_clean(answer.text)


def test_the_views_are_the_contract(world: World) -> None:
    for view, columns in TABLES.items():
        for schema in ("analytics", "tenant"):
            found = world.api.sql(
                "select array_agg(attname::text order by attnum) from pg_attribute"
                " where attrelid = %s::regclass and attnum > 0 and not attisdropped",
                f"{schema}.{view}",
            )
            assert tuple(found[0][0]) == columns, f"{schema}.{view}"
        answer = world.ask(f"select * from {view}", limit=5)
        assert [column["name"] for column in answer.json()["columns"]] == list(columns)
        assert answer.json()["rows"], view


def test_my_rows_are_all_there(world: World) -> None:
    assert world.rows("select count(*), min(value), max(value) from reading") == [[600, 7.01, 10.0]]
    (sums,) = world.rows("select sum(n) from reading_1m")
    assert sums == [600]
    assert world.rows("select sensor, tenant from sensor") == [["s1", world.mine.slug]]
    assert world.rows("select site from alert") == [["weir"]]


def test_parameters_keep_their_types(world: World) -> None:
    statement = "select $1::text, $2 + 1, $3 * 2.5, $4 is true, $5::int"
    values = ["it's '; --", 41, 2.0, True, None]
    assert world.rows(statement, params=values) == [["it's '; --", 42, 5.0, True, None]]
    slow = "select count(*) from reading where ts >= $1::timestamptz and value > $2"
    assert world.rows(slow, params=["2020-01-01", 0]) == [[600]]


def test_values_of_every_type(world: World) -> None:
    statement = (
        "select true, 1::smallint, 9007199254740993, 0.1::numeric, 1.5, 'NaN'::float8, 'ä', "
        "date '2026-01-02', timestamptz '2026-01-02 03:04:05+01', interval '1 day 2:00', "
        "array[1, 2], '{\"a\": [1]}'::jsonb, null"
    )
    (found,) = world.rows(statement)
    assert found == [
        *(True, 1, 9007199254740993, 0.1, 1.5, None, "ä", "2026-01-02", "2026-01-02T02:04:05Z"),
        *("P1DT7200S", [1, 2], {"a": [1]}, None),
    ]
    answer = world.ask("select 'infinity'::timestamptz")
    assert answer.status_code == 422 and "cast it to text" in answer.json()["detail"]


def test_csv_and_arrow(world: World) -> None:
    statement = "select ts, value, sensor_id, null as nothing, array['a'] as list from reading"
    answer = world.ask(statement + " order by ts limit 2", headers={"Accept": "text/csv"})
    lines = answer.text.split("\r\n")
    assert lines[0] == "ts,value,sensor_id,nothing,list"
    assert lines[1].endswith(f'Z,10.0,{world.my_sensor},,"[""a""]"')
    arrow = {"Accept": "application/vnd.apache.arrow.stream"}
    answer = world.ask(statement, headers=arrow, limit=100)
    assert answer.headers["headwater-truncated"] == "true"
    assert answer.headers["headwater-row-count"] == "100"
    table = pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()
    assert table.num_rows == 100
    assert table.schema.field("ts").type == pa.timestamp("us", "UTC")
    assert world.ask("select 1", headers={"Accept": "image/png"}).status_code == 406


def test_caps_are_said(serve: Callable[..., Api]) -> None:
    world = World(serve(SQL_MAX_ROWS="50", SQL_MAX_BYTES="2000", SQL_MAX_COST="100"))
    found = world.ask("select 1 from generate_series(1, 60)", limit=50).json()
    assert (found["row_count"], found["truncated"]) == (50, True)
    exact = world.ask("select 1 from generate_series(1, 50)", limit=50).json()
    assert (exact["row_count"], exact["truncated"]) == (50, False)
    wide = world.ask(
        "select concat(g, md5('x'), md5('y')) from generate_series(1, 40) as g", limit=50
    )
    assert 0 < wide.json()["row_count"] < 40 and wide.json()["truncated"]
    assert world.ask("select 1", limit=51).status_code == 400
    answer = world.ask("select count(*) from generate_series(1, 1000000)")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/query-too-costly"
    assert answer.json()["cost"] > answer.json()["limit"] == 100


# attacks


def test_attacks_through_the_api(world: World) -> None:
    before = world.digest()
    for text in world.attacks:
        answer = world.ask(text, limit=100)
        assert answer.status_code in (200, 422), (text, answer.text)
        assert is_clean(answer.text) or MARK in text.lower(), (text, answer.text)
        if answer.status_code == 200:
            assert is_clean(json.dumps(answer.json()["rows"])), text
    assert world.digest() == before
    assert world.rows("select count(*) from reading") == [[600]]


def test_attacks_past_the_guard(world: World) -> None:
    """The second wall alone: free SQL as headwater_sql, with a pass for one tenant."""
    before = world.digest()
    url = world.api.environment["SQL_DATABASE_URL"]
    permit = world.permit(world.mine.tenant_id)
    options = "-c default_transaction_read_only=on -c statement_timeout=300"
    for aimed in world.attacks:
        text = aimed.replace("from reading", "from tenant.reading")
        with psycopg.connect(url, autocommit=True, options=options) as connection:
            connection.execute("select set_config('headwater.pass', %s, false)", [permit])
            connection.execute("select set_config('search_path', 'tenant, public', false)")
            try:
                cursor = connection.execute(text)  # type: ignore[call-overload]
                found = [cursor.fetchmany(100)] if cursor.description else []
            except psycopg.Error as exc:
                found = [str(exc.diag.message_primary), str(exc.diag.message_detail)]
            assert is_clean(str(found)) or MARK in text.lower(), (text, found)
    assert world.digest() == before


@pytest.mark.parametrize("word", ["all", "1", "2", "999", ""])
def test_a_pass_can_not_be_made(world: World, word: str) -> None:
    mine = world.permit(world.mine.tenant_id)
    signature = mine.partition(".")[2]
    with psycopg.connect(world.api.environment["SQL_DATABASE_URL"], autocommit=True) as connection:
        assert connection.execute("select count(*) from tenant.sensor").fetchall() == [(0,)]
        for forged in (word, f"{word}.", f"{word}.{signature}", f"{word}.{'0' * 64}", f".{mine}"):
            if forged != mine:
                connection.execute("select set_config('headwater.pass', %s, false)", [forged])
                assert connection.execute("select count(*) from tenant.sensor").fetchall() == [(0,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select identity.sql_pass(null)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from analytics.sensor")


def test_errors_do_not_tell_of_rows_that_are_not_shown(world: World) -> None:
    """The views are barriers: what may fail never runs on another tenant's row."""
    for condition in (
        "sensor::int > 0",
        f"1 / (length(sensor) - {len(MARK) + 7}) > 0",
        f"1 / (tenant_id - {world.other.tenant_id}) is not null",
    ):
        answer = world.ask(f"select count(*) from sensor where sensor <> 's1' and {condition}")
        assert answer.status_code in (200, 422)
        assert "division" not in answer.text and MARK not in answer.text
    harmless = f"select count(*) from reading where 1 / (sensor_id - {world.sensor}) is not null"
    assert world.rows(harmless) == [[600]]


# every door


@contextmanager
def invoked(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    with monkeypatch.context() as patch:
        for name in ("DATABASE_URL", "SQL_DATABASE_URL", "OWNER_DATABASE_URL"):
            patch.setenv(name, world.api.environment[name])
        yield lambda *words: CliRunner().invoke(group, list(words))


def test_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with invoked(world, monkeypatch) as run:
        everything = run("sql", "select sensor from sensor order by 1", "--format", "csv")
        assert everything.output.split() == ["sensor", "s1", f"{MARK}-sensor"]
        mine = run("sql", "select * from sensor", "--tenant", world.mine.slug, "--format", "json")
        assert is_clean(mine.output) and json.loads(mine.output)["row_count"] == 1
        table = run("sql", "select $1 as x", "--param", "[bold]\x1b[31m")
        assert "[bold]" in table.output and "\x1b[31m" not in table.output
        refused = run("sql", "delete from reading")
        assert "only SELECT is taken" in str(refused.exception)


def test_a_tenants_own_database_login(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with invoked(world, monkeypatch) as run:
        url = run("tenant", "login", world.mine.slug).output.strip()
        again = run("tenant", "login", world.mine.slug).output.strip()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    with psycopg.connect(again, autocommit=True) as connection:
        for view in TABLES:
            assert is_clean(str(connection.execute(f"select * from {view}").fetchall()))  # type: ignore[call-overload]
        count = "select count(*) from reading"
        assert connection.execute(count).fetchall() == [(600,)]
        for attempt in (
            f"set headwater.pass = '{world.permit(world.other.tenant_id)}'",
            "set role headwater_sql",
            "reset all",
            "set search_path = tenant",
        ):
            connection.execute(attempt)  # type: ignore[call-overload]
            assert connection.execute(count).fetchall() == [(600,)]
        for forbidden in (
            *("select * from analytics.reading", "select * from telemetry.reading"),
            *("set session authorization headwater_sql", "set role headwater_app"),
            *("delete from tenant.sensor", "insert into identity.analyst_login values ('x', 2)"),
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(forbidden)  # type: ignore[call-overload]
    with invoked(world, monkeypatch) as run:
        monkeypatch.setenv("RELAY_PORT", "5433")
        monkeypatch.setenv("RELAY_HOST", "0.0.0.0")
        by_relay = run("tenant", "login", world.mine.slug).output.strip()
        assert re.fullmatch(
            rf"postgresql://tenant_{world.mine.slug}:\S+@localhost:5433/\w+", by_relay
        )
        monkeypatch.delenv("RELAY_PORT")
        assert "revoked" in run("tenant", "login", world.mine.slug, "--revoke").output
        assert "nothing to revoke" in str(
            run("tenant", "login", world.mine.slug, "--revoke").exception
        )
        monkeypatch.setenv("OWNER_DATABASE_URL", world.api.environment["DATABASE_URL"])
        assert "set OWNER_DATABASE_URL" in str(run("tenant", "login", world.mine.slug).exception)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(again)


def test_the_platforms_analyst_uses_the_same_names(world: World) -> None:
    url = world.api.environment["DATABASE_URL"].replace("headwater_app", "headwater_analyst")
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select count(distinct sensor_id) from reading").fetchall()
        assert found == [(2,)]
        with pytest.raises(psycopg.Error):
            connection.execute("select * from telemetry.reading")


def test_no_door_leads_to_another_tenant(world: World) -> None:
    other = f"{MARK}-sensor"
    ((episode,),) = world.api.sql(
        "select episode_id from alert.episode where tenant_id = %s", world.other.tenant_id
    )
    for path in ("sensors", "sites", "latest", "alerts", "readings", "thresholds"):
        for accept in ("application/json", "text/csv"):
            answer = world.api.client.get(
                f"/api/v1/{path}",
                headers=world.mine.headers("operator") | {"Accept": accept},
            )
            assert is_clean(answer.text), path
    for path in (
        f"/api/v1/readings?sensor={other}",
        f"/api/v1/latest?sensor={other}",
        f"/api/v1/latest?site={MARK}",
        f"/api/v1/sensors?tenant={MARK}",
        f"/api/v1/alerts/{episode}",
        f"/api/sensors/latest?sensor_id={other}",
    ):
        answer = world.api.client.get(path, headers=world.mine.headers("operator"))
        assert answer.status_code == 404, path
    for role in ("operator", "scientist", "admin"):
        answer = world.ask("select * from sensor", role=role, tenant=MARK)
        assert answer.status_code == 404, role
    assert MARK in world.ask("select * from sensor", role="super_admin", tenant=MARK).text
    assert MARK not in world.ask("select * from sensor", role="super_admin", tenant="t1").text
    for role in ("device", "integration"):
        assert world.ask("select 1", role=role).status_code == 403


def test_live_tells_of_no_other_tenant(world: World) -> None:
    world.other.make_threshold(limit=8)
    world.other.make_sensor(f"{MARK}-2")
    url = f"ws://127.0.0.1:{world.api.port}/api/v1/live"
    mine, theirs = (tenant.headers("operator") for tenant in (world.mine, world.other))
    with (
        websockets.sync.client.connect(url, additional_headers=mine) as quiet,
        websockets.sync.client.connect(url, additional_headers=theirs) as loud,
    ):
        assert "hello" in str(quiet.recv(timeout=PATIENCE))
        assert "hello" in str(loud.recv(timeout=PATIENCE))
        world.other.post([row(9.5, now(), sensor=f"{MARK}-2")])
        assert MARK in str(loud.recv(timeout=PATIENCE))
        with pytest.raises(TimeoutError):
            quiet.recv(timeout=1.5)


# limits and failures


def running(api: Api) -> int:
    found = api.sql(
        "select count(*) from pg_stat_activity where application_name = 'headwater-sql'"
        " and state = 'active'"
    )
    return int(found[0][0])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


SLOW = "select count(*) from generate_series(1, 100000) as a, generate_series(1, 100000) as b"


def test_a_client_that_hangs_up_cancels_its_query(serve: Callable[..., Api]) -> None:
    api = serve(SQL_MAX_COST="1e15", SQL_TIMEOUT_SECONDS="600")
    tenant = api.make_tenant()
    headers = tenant.headers("scientist")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{api.url}/api/v1/sql", json={"sql": SLOW}, headers=headers, timeout=2)
    until(lambda: running(api) == 0)
    answer = api.client.post("/api/v1/sql", json={"sql": "select 1"}, headers=headers)
    assert answer.json()["rows"] == [[1]]


def test_a_slow_query_is_ended(serve: Callable[..., Api]) -> None:
    api = serve(SQL_MAX_COST="1e15", SQL_TIMEOUT_SECONDS="1")
    tenant = api.make_tenant()
    answer = api.client.post("/api/v1/sql", json={"sql": SLOW}, headers=tenant.headers("scientist"))
    assert answer.status_code == 422
    assert "longer than 1 s" in answer.json()["detail"]
    assert running(api) == 0


def test_without_an_address_the_route_says_so(serve: Callable[..., Api]) -> None:
    api = serve(SQL_DATABASE_URL="")
    tenant = api.make_tenant()
    headers = tenant.headers("scientist")
    answer = api.client.post("/api/v1/sql", json={"sql": "select 1"}, headers=headers)
    assert answer.status_code == 503 and "SQL_DATABASE_URL" in answer.json()["detail"]
    assert api.client.get("/api/v1/sites", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"sql": 1}', 400),
        (b'{"sql": "select 1", "limit": 0}', 400),
        (b'{"sql": "select 1", "limit": "many"}', 400),
        (b'{"sql": "select 1", "params": [[1]]}', 400),
        (b'{"sql": "select 1", "query": "select 2"}', 400),
        (b'{"sql": "select \\u0000 1"}', 400),
        (b'{"sql": "select \\ud800"}', 400),
        (b'{"sql": "\xff"}', 400),
        (b'{"sql": "' + b"x" * 300_000 + b'"}', 413),
        (b'{"sql": "select $1::int", "params": ["x"]}', 422),
        (b'{"sql": "select * from nothing"}', 422),
        (b'{"sql": "select nothing from reading"}', 422),
        (b'{"sql": "select 1 +"}', 422),
    ],
)
def test_bad_bodies_are_named(world: World, body: bytes, status: int) -> None:
    headers = world.mine.headers("scientist") | {"Content-Type": "application/json"}
    answer = world.api.client.post("/api/v1/sql", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
