"""A database host that is frozen or takes no writes: clear answers, nothing lost, back without hands."""

import time
from collections.abc import Callable, Iterator

import pytest
from fix_database import Database
from fix_replica import Replica, frozen
from fix_server import Api, Tenant, environment_of, row, serving

from app.local.runtime import Runtime
from app.local.temporary import temporary


@pytest.fixture
def own() -> Iterator[tuple[Runtime, Api]]:
    """An API on a cluster of its own, which may be frozen."""
    import asyncio

    from app.migrate import migrate

    with temporary(with_redis=False) as runtime:
        asyncio.run(migrate(runtime.superuser_url))
        settings = runtime.environment() | {"STATEMENT_TIMEOUT_SECONDS": "2"}
        with serving(settings, runtime.superuser_url) as api:
            yield runtime, api


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_unavailable(answer: object) -> bool:
    return (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")  # type: ignore[attr-defined]


def ready(api: Api) -> Tenant:
    """A tenant whose keys the API knows already and whose writer is connected."""
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    assert tenant.post([row(7.0, "2026-06-01T00:00:00Z")]).status_code == 200
    assert tenant.get("/api/v1/sites").status_code == 200
    return tenant


def put_threshold(tenant: Tenant) -> int:
    limit = {"metric": "ph", "severity": "warning", "side": "high", "limit": 8}
    answer = tenant.api.client.put(
        "/api/v1/thresholds", json=limit, headers=tenant.headers("admin")
    )
    return answer.status_code


def test_a_frozen_database_is_a_503_and_not_a_hang(own: tuple[Runtime, Api]) -> None:
    runtime, api = own
    tenant = ready(api)
    api.client.timeout = 90
    with frozen(runtime.postgres):
        eventually(lambda: api.client.get("/api/status").json()["db"] == "disconnected")
        assert is_unavailable(tenant.get("/api/v1/sites"))
        assert is_unavailable(tenant.post([row(7.1, "2026-06-01T00:01:00Z")]))
        assert is_unavailable(tenant.get("/api/v1/latest"))
    eventually(lambda: api.client.get("/api/status").json()["db"] == "connected")
    eventually(lambda: tenant.get("/api/v1/sites").status_code == 200)
    said = tenant.post([row(7.1, "2026-06-01T00:01:00Z")]).json()
    assert said["stored"] + said["duplicate"] == 1
    assert len(tenant.stored()) == 2


def test_a_standby_is_no_internal_error(
    database: Database, replica: Replica, serve: Callable[..., Api]
) -> None:
    """After a failover the address may lead to a server that still, or by now, only reads."""
    tenant = ready(serve())
    tenant.key("admin")
    replica.catch_up()
    settings = environment_of(database) | {
        "DATABASE_URL": replica.url(database, "headwater_app"),
        "INGEST_DATABASE_URL": replica.url(database, "headwater_ingest"),
    }
    with serving(settings, database.url()) as api:
        tenant.api = api
        assert tenant.get("/api/v1/sites").status_code == 200
        answer = tenant.post([row(7.1, "2026-06-01T00:01:00Z")])
        assert is_unavailable(answer) and int(answer.headers["retry-after"]) >= 1
        assert put_threshold(tenant) == 503
        assert "unexpected_error" not in api.log.read_text()
        replica.execute("select pg_promote()")
        eventually(lambda: tenant.post([row(7.1, "2026-06-01T00:01:00Z")]).status_code == 200)
        eventually(lambda: put_threshold(tenant) == 200)


def test_a_server_that_was_demoted_is_left_for_the_other(
    database: Database, replica: Replica, serve: Callable[..., Api]
) -> None:
    """Two hosts in the address: whoever takes writes is found, without a restart."""
    server = database.server

    def both(role: str) -> str:
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{replica.port}"
        address = f"postgresql://{role}:{server.password}@{hosts}/{database.name}"
        return f"{address}?target_session_attrs=read-write"

    api = serve(DATABASE_URL=both("headwater_app"), INGEST_DATABASE_URL=both("headwater_ingest"))
    tenant = ready(api)
    assert put_threshold(tenant) == 200
    replica.catch_up()
    replica.execute("select pg_promote()")
    try:
        server.execute("alter system set default_transaction_read_only = on")
        server.execute("select pg_reload_conf()")
        eventually(lambda: tenant.post([row(7.1, "2026-06-01T00:01:00Z")]).status_code == 200)
        eventually(lambda: put_threshold(tenant) == 200)
        assert len(tenant.stored()) == 1
        copied = "select count(*) from telemetry.reading where value = 7.1"
        assert replica.execute(copied, database.name) == [(1,)]
    finally:
        server.execute("alter system reset default_transaction_read_only")
        server.execute("select pg_reload_conf()")
