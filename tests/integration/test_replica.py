"""Reads from a streaming replica: served there, never wrong for long, never refused when it is gone."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from fix_database import Database
from fix_replica import Replica, frozen
from fix_server import Api, Tenant, row

from app.db.reads import Lag

READS = (
    ("/api/v1/sensors", {}),
    ("/api/v1/sites", {}),
    ("/api/v1/metrics", {}),
    ("/api/v1/latest", {}),
    ("/api/v1/alerts", {}),
    ("/api/v1/thresholds", {}),
    ("/api/v1/readings", {"from": "2026-06-01T00:00:00Z", "to": "2026-06-02T00:00:00Z"}),
    (
        "/api/v1/readings",
        {"from": "2026-06-01T00:00:00Z", "to": "2026-06-02T00:00:00Z", "resolution": "1h"},
    ),
    ("/api/sensors/historical", {"sensor_id": "s1", "date": "2026-06-01"}),
    ("/api/sensors/latest", {"sensor_id": "s1"}),
)


@pytest.fixture
def tenant(database: Database, replica: Replica, serve: Callable[..., Api]) -> Tenant:
    """A tenant with a reading and an alert, of an API with the replica."""
    api = serve(
        DATABASE_READ_URL=replica.url(database, "headwater_app"),
        DATABASE_READ_MAX_LAG_SECONDS="2",
        STATEMENT_TIMEOUT_SECONDS="3",
    )
    made = api.make_tenant()
    made.make_sensor("s1")
    made.make_threshold(limit=8)
    assert made.post([row(8.5, "2026-06-01T00:00:00Z")]).status_code == 200
    for role in ("scientist", "operator", "admin"):
        made.key(role)
    is_latest = "select count(*) from telemetry.latest_reading"
    eventually(lambda: replica.execute(is_latest, database.name) == [(1,)])
    becomes(api, "connected")
    return made


def status(api: Api) -> Any:
    return api.client.get("/api/status").json()


def becomes(api: Api, state: str) -> Any:
    eventually(lambda: status(api)["db_read"] == state)
    return status(api)


def eventually(holds: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def all_read(tenant: Tenant) -> None:
    for path, params in READS:
        answer = tenant.get(path, role="operator", **params)
        assert answer.status_code == 200, (path, answer.text)


def on_primary_only(database: Database, value: str) -> None:
    """Make the primary's answer differ: an API that shows this has not asked the replica."""
    database.execute(f"update telemetry.sensor set title = '{value}'")


def title(tenant: Tenant, **headers: str) -> Any:
    answer = tenant.api.client.get("/api/v1/sensors", headers=tenant.headers("operator") | headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["sensors"][0]["title"]


def transactions(replica: Replica, database: Database) -> int:
    """That the API's reads have ended on the replica, as the replica's own statistics say."""
    found = replica.execute(
        "select count(*) from pg_stat_activity where application_name = 'headwater-read'"
        f" and datname = '{database.name}' and query ilike '%telemetry.%'"
    )
    return int(str(found[0][0]))


def test_reads_are_served_by_the_replica(
    tenant: Tenant, database: Database, replica: Replica
) -> None:
    all_read(tenant)
    assert transactions(replica, database) >= 1
    replica.execute("select pg_wal_replay_pause()")
    try:
        on_primary_only(database, "new")
        assert title(tenant) is None
        assert title(tenant, **{"Cache-Control": "no-cache"}) == "new"
        lagging = becomes(tenant.api, "lagging")
        assert lagging["db_read_lag_seconds"] >= 2
        assert any(reason.startswith("db_read") for reason in lagging["reasons"])
        assert title(tenant) == "new"
    finally:
        replica.execute("select pg_wal_replay_resume()")
    assert becomes(tenant.api, "connected")["db_read_lag_seconds"] <= 2
    assert title(tenant) == "new"


def test_what_a_person_changes_is_seen_at_once(
    tenant: Tenant, database: Database, replica: Replica
) -> None:
    replica.execute("select pg_wal_replay_pause()")
    try:
        (alert,) = tenant.get("/api/v1/alerts", role="operator").json()["alerts"]
        path = f"/api/v1/alerts/{alert['alert_id']}"
        client = tenant.api.client
        done = client.post(f"{path}/acknowledge", headers=tenant.headers("operator"))
        assert done.json()["state"] == "acknowledged"
        assert tenant.get(path, role="operator").json()["state"] == "acknowledged"
        limit = {"metric": "ph", "severity": "critical", "side": "high", "limit": 9}
        client.put("/api/v1/thresholds", json=limit, headers=tenant.headers("admin"))
        found = tenant.get("/api/v1/thresholds", role="operator").json()["thresholds"]
        assert 9 in [one["limit"] for one in found]
        tenant.make_sensor("s2")
        tenant.post([row(7.0, "2026-06-01T00:00:00Z", sensor="s2")])
        assert tenant.get("/api/sensors/latest", sensor_id="s2").json()["pH"] == 7.0
        key = tenant.make_key("operator")
        answer = client.get("/api/v1/sites", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200
    finally:
        replica.execute("select pg_wal_replay_resume()")


def test_a_replica_that_dies_is_not_noticed_and_comes_back(
    tenant: Tenant, database: Database, replica: Replica
) -> None:
    all_read(tenant)
    replica.cluster.kill9()
    all_read(tenant)
    down = becomes(tenant.api, "disconnected")
    assert (down["db"], down["db_read_lag_seconds"]) == ("connected", None)
    assert any(reason.startswith("db_read") for reason in down["reasons"])
    on_primary_only(database, "meanwhile")
    assert title(tenant) == "meanwhile"
    replica.start()
    becomes(tenant.api, "connected")
    all_read(tenant)
    eventually(lambda: [title(tenant), transactions(replica, database)][1])


def test_a_frozen_replica_delays_and_refuses_nothing(tenant: Tenant, replica: Replica) -> None:
    all_read(tenant)
    with frozen(replica.cluster):
        all_read(tenant)
        becomes(tenant.api, "disconnected")
        all_read(tenant)
    becomes(tenant.api, "connected")
    all_read(tenant)


def test_a_query_that_the_replica_ends_is_asked_again(
    tenant: Tenant, database: Database, replica: Replica
) -> None:
    """What is replayed may need a lock that a read holds: the read is ended there, not here."""
    database.execute("revoke select on telemetry.site from headwater_app")
    replica.catch_up()
    replica.execute("select pg_wal_replay_pause()")
    try:
        database.execute("grant select on telemetry.site to headwater_app")
        assert tenant.get("/api/v1/sites").status_code == 200
        assert "replica_failed" in tenant.api.log.read_text()
    finally:
        replica.execute("select pg_wal_replay_resume()")


def test_peoples_sql_may_run_on_a_replica(
    database: Database, replica: Replica, serve: Callable[..., Api]
) -> None:
    """Two hosts in SQL_DATABASE_URL: the standby first, the other while there is none."""
    server = database.server
    address = (
        f"postgresql://headwater_sql:{server.password}@127.0.0.1:{server.port},"
        f"127.0.0.1:{replica.port}/{database.name}?target_session_attrs=prefer-standby"
    )
    api = serve(SQL_DATABASE_URL=address)
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.post([row(8.5, "2026-06-01T00:00:00Z")])
    body = {"sql": "select count(*) from reading"}
    key = tenant.key("scientist")
    replica.catch_up()
    assert tenant.post(body, "/api/v1/sql", key=key).json()["rows"] == [[1]]
    used = "select count(*) from pg_stat_activity where application_name = 'headwater-sql'"
    assert replica.execute(used) == [(1,)]
    replica.cluster.kill9()
    eventually(lambda: tenant.post(body, "/api/v1/sql", key=key).status_code == 200)


def test_a_replica_that_is_not_there_yet_is_no_failure(
    database: Database, serve: Callable[..., Api]
) -> None:
    api = serve(DATABASE_READ_URL="postgresql://headwater_app:x@127.0.0.1:9/none")
    tenant = api.make_tenant()
    assert tenant.get("/api/v1/sensors").status_code == 200
    assert status(api)["db_read"] == "disconnected"


def test_without_a_replica_nothing_is_said(api: Api) -> None:
    found = status(api)
    assert (found["db_read"], found["db_read_lag_seconds"]) == ("not configured", None)
    assert not any(reason.startswith("db_read") for reason in found["reasons"])


def test_lag_is_how_long_ago_the_primary_wrote_what_is_missing() -> None:
    lag = Lag()
    lag.wrote(100.0, 1000)
    lag.wrote(101.0, 2000)
    lag.wrote(102.0, 3000)
    assert lag.replayed(102.5, 1500) == 1.5
    assert lag.has_all_until == 100.0
    assert lag.replayed(103.0, 3000) == 0.0
    assert lag.has_all_until == 102.0
    lag.wrote(104.0, 4000)
    assert lag.replayed(114.0, 3999) == 10.0
    assert lag.replayed(115.0, None) == 0.0
