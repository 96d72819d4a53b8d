"""The whole API behind PgBouncer in transaction mode, where a session is nobody's own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from fix_database import Database
from fix_pooler import SESSIONS, Pooler
from fix_server import Api, row

from app.db.pool import pool_for

ROUNDS = 12
DAY = "2026-06-01"


@pytest.fixture
def api(pooler: Pooler, serve: Callable[..., Api]) -> Api:
    return serve(**pooler.environment(), INGEST_WRITERS="3", POOL_SIZE="6", SQL_POOL_SIZE="4")


def headwater(environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def at(minute: int) -> str:
    return f"{DAY}T{minute // 60:02}:{minute % 60:02}:00Z"


def alert_kinds(lines: Iterator[str], count: int) -> list[str]:
    found = []
    for line in lines:
        if line.startswith("data: ") and '"kind":"hello"' not in line.replace(" ", ""):
            found.append(line.split('"kind":"')[1].split('"')[0])
            if len(found) == count:
                return found
    raise AssertionError(found)


def test_everything_works_with_few_sessions_for_many(api: Api, pooler: Pooler) -> None:
    tenants = [api.make_tenant() for _ in range(4)]
    for tenant in tenants:
        for uid in ("s1", "s2"):
            tenant.make_sensor(uid)
        tenant.make_threshold(limit=8)
        assert {tenant.key(role) for role in ("device", "scientist", "operator", "admin")}

    def life(number: int) -> None:
        """Many rounds, so that a statement prepared in one session would be missed in another."""
        tenant = tenants[number]
        for turn in range(ROUNDS):
            new = [row(7 + turn / 100, at(5 * turn + n), s) for n in range(5) for s in ("s1", "s2")]
            assert tenant.post(new).json()["stored"] == 10
            assert tenant.post(new).json()["duplicate"] == 10
            other = [row(6.5, at(5 * turn), "s1"), row(6.6, at(600 + turn), "s1")]
            said = tenant.post(other).json()
            assert (said["conflict"], said["stored"]) == (1, 1)
            for path in ("sensors", "sites", "metrics", "latest", "alerts", "thresholds"):
                answer = tenant.get(f"/api/v1/{path}", role="operator")
                assert answer.status_code == 200, answer.text
            raw = tenant.get("/api/v1/readings", sensor="s2", **{"from": at(0), "to": at(1439)})
            assert len(raw.json()["readings"]) == 5 * (turn + 1)
            day = tenant.get("/api/sensors/historical", sensor_id="s2", date=DAY)
            assert len(day.json()["readings"]) == 5 * (turn + 1)
            body = {"sql": "select count(*) from reading"}
            answer = tenant.post(body, "/api/v1/sql", key=tenant.key("scientist"))
            assert answer.json()["rows"] == [[10 * (turn + 1) + turn + 1]], answer.text
            limit = {"metric": "ph", "severity": "critical", "side": "high", "limit": 9 + turn}
            answer = api.client.put(
                "/api/v1/thresholds", json=limit, headers=tenant.headers("admin")
            )
            assert answer.json()["limit"] == 9 + turn

    with ThreadPoolExecutor(len(tenants)) as threads:
        list(threads.map(life, range(len(tenants))))
    for tenant in tenants:
        assert len(tenant.stored()) == 11 * ROUNDS
    sessions = [line for line in pooler.show("servers") if line["database"] != "pgbouncer"]
    for role in ("headwater_app", "headwater_ingest", "headwater_sql"):
        assert 0 < len([line for line in sessions if line["user"] == role]) <= SESSIONS
    direct = api.sql(
        "select distinct application_name from pg_stat_activity where datname = current_database()"
        " and client_port is not null and pid <> pg_backend_pid() and usename <> 'headwater_ingest'"
        " and application_name like 'headwater-%%' and query ilike 'listen%%'"
    )
    assert direct in ([], [("headwater-bell",)])


def test_alerts_are_pushed_decided_and_judged(api: Api) -> None:
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.make_threshold(limit=8)
    url = f"{api.url}/api/v1/live/sse"
    with httpx.stream("GET", url, headers=tenant.headers("operator"), timeout=20) as stream:
        lines = stream.iter_lines()
        assert '"hello"' in next(line for line in lines if line.startswith("data: "))
        tenant.post([row(8.5, at(0))])
        (alert,) = tenant.get("/api/v1/alerts", role="operator").json()["alerts"]
        path = f"/api/v1/alerts/{alert['alert_id']}/acknowledge"
        assert api.client.post(path, headers=tenant.headers("operator")).status_code == 200
        assert api.client.post(path, headers=tenant.headers("operator")).status_code == 409
        tenant.post([row(7.0, at(1))])
        assert alert_kinds(lines, 3) == ["raised", "acknowledged", "resolved"]
    assert api.client.get("/api/status").json()["live"]["status"] == "running"


def test_jobs_run_past_the_pooler(api: Api, pooler: Pooler) -> None:
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.post([row(7.0, at(n)) for n in range(10)])
    for job in ("refresh_rollups", "sweep_alerts", "tidy"):
        done = headwater(api.environment, "jobs", "--once", job)
        assert (done.returncode, done.stdout) == (0, f"{job}: done\n"), done.stderr
    hourly = tenant.get(
        "/api/v1/readings", sensor="s1", resolution="1h", **{"from": at(0), "to": at(60)}
    )
    assert hourly.json()["readings"][0]["n"] == 10, hourly.text


def test_no_setting_is_left_in_a_session(api: Api, pooler: Pooler) -> None:
    """Else the next transaction of somebody else would commit without waiting for the disk."""
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    for n in range(20):
        tenant.post([row(7.0, at(n))])
        tenant.get("/api/v1/latest")
        tenant.post({"sql": "select 1"}, "/api/v1/sql", key=tenant.key("scientist"))
    assert headwater(api.environment, "migrate", "--check").returncode == 0
    names = ("synchronous_commit", "statement_timeout", "lock_timeout", "search_path")
    names += ("default_transaction_read_only", "enable_hashjoin", "headwater.pass")
    for role in ("headwater_app", "headwater_ingest", "headwater_sql"):
        with psycopg.connect(pooler.database.url(role)) as connection:
            fresh = [current(connection, name) for name in names]
        with psycopg.connect(pooler.url(role), prepare_threshold=None) as connection:
            for _ in range(2 * SESSIONS):
                assert [current(connection, name) for name in names] == fresh, role
                connection.rollback()


def current(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("select coalesce(current_setting(%s, true), '')", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_a_read_still_has_its_time_limit(pooler: Pooler, serve: Callable[..., Api]) -> None:
    api = serve(**pooler.environment(), STATEMENT_TIMEOUT_SECONDS="1")
    tenant = api.make_tenant()
    assert tenant.get("/api/v1/sites").status_code == 200
    with psycopg.connect(api.superuser_url) as connection:
        connection.execute("lock table telemetry.site in access exclusive mode")
        answer = tenant.get("/api/v1/sites")
    assert answer.status_code == 503
    assert "took too long" in answer.json()["detail"]


async def test_peoples_sql_stays_read_only(pooler: Pooler) -> None:
    url = pooler.url("headwater_sql")
    pool = pool_for(url, application="t", seconds=5, size=1, is_read_only=True)
    async with pool, pool.connection() as connection, connection.transaction():
        assert connection.is_pooled
        cursor = await connection.execute("show transaction_read_only")
        assert await cursor.fetchone() == ("on",)


async def test_a_connection_without_a_pooler_is_not_taken_for_one(database: Database) -> None:
    url = database.url("headwater_app")
    pool = pool_for(url, application="t", seconds=5, size=1, settings={"statement_timeout": "7s"})
    async with pool, pool.connection() as connection:
        assert not connection.is_pooled
        cursor = await connection.execute("show statement_timeout")
        assert await cursor.fetchone() == ("7s",)


def test_without_a_direct_address_alerts_come_late_and_status_says_so(
    pooler: Pooler, serve: Callable[..., Api]
) -> None:
    api = serve(**(pooler.environment() | {"DIRECT_DATABASE_URL": ""}))
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.make_threshold(limit=8)
    status = api.client.get("/api/status").json()
    assert status["live"]["status"] == "waiting"
    assert any("DIRECT_DATABASE_URL" in reason for reason in status["reasons"])
    url = f"{api.url}/api/v1/live/sse"
    with httpx.stream("GET", url, headers=tenant.headers("operator"), timeout=20) as stream:
        lines = stream.iter_lines()
        assert '"hello"' in next(line for line in lines if line.startswith("data: "))
        tenant.post([row(8.5, at(0))])
        assert alert_kinds(lines, 1) == ["raised"]


def test_what_needs_a_session_of_its_own_refuses_the_pooler(
    pooler: Pooler, serve: Callable[..., Api], tmp_path: Path
) -> None:
    environment = {
        **pooler.environment(),
        "DIRECT_DATABASE_URL": "",
        "OWNER_DATABASE_URL": pooler.url("postgres"),
    }
    file = tmp_path / "readings.csv"
    file.write_text("sensor,ts,metric,value\ns1,2026-01-01T00:00:00Z,ph,7\n")
    with psycopg.connect(pooler.database.url(), autocommit=True) as connection:
        connection.execute("insert into identity.tenant (slug, title) values ('t', 't')")
    for words, variable in (
        (["jobs", "--once", "tidy"], "DIRECT_DATABASE_URL"),
        (["migrate"], "OWNER_DATABASE_URL"),
        (["import", "--tenant", "t", str(file)], "INGEST_DATABASE_URL"),
    ):
        done = headwater(environment, *words)
        assert done.returncode == 1, (words, done)
        assert len(done.stderr.strip().splitlines()) == 1 and variable in done.stderr, done.stderr
