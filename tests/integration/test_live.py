"""Live push: every change once, whatever the order of commits, to whoever may see it, never waiting."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import websockets.sync.client
from fix_database import Database
from fix_server import Api, Tenant, row
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection


@contextmanager
def listening(
    tenant: Tenant, role: str = "operator", /, **params: Any
) -> Iterator[ClientConnection]:
    query = str(httpx.QueryParams({"access_token": tenant.key(role)} | params))
    url = f"ws://127.0.0.1:{tenant.api.port}/api/v1/live?{query}"
    with websockets.sync.client.connect(url) as socket:
        hello = json.loads(socket.recv(timeout=10))
        assert hello["kind"] == "hello"
        yield socket


def received(socket: ClientConnection, seconds: float = 10) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(socket.recv(timeout=seconds))
    return found


def nothing_comes(socket: ClientConnection) -> bool:
    try:
        socket.recv(timeout=0.5)
    except TimeoutError:
        return True
    return False


def close_code(
    tenant: Tenant, query: str, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    url = f"ws://127.0.0.1:{tenant.api.port}/api/v1/live{query}"
    with (
        websockets.sync.client.connect(url, additional_headers=headers) as socket,
        pytest.raises(ConnectionClosed) as closed,
    ):
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_an_alerts_life_is_told_as_it_happens(tenant: Tenant) -> None:
    tenant.make_threshold(limit=8)
    with listening(tenant) as socket:
        tenant.post([row(8.5)])
        raised = received(socket)
        number = raised["alert"]["alert_id"]
        assert (raised["kind"], raised["value"], raised["alert"]["state"]) == (
            "raised",
            8.5,
            "open",
        )
        assert raised["alert"] == tenant.get(f"/api/v1/alerts/{number}").json()
        tenant.api.client.post(
            f"/api/v1/alerts/{number}/acknowledge", headers=tenant.headers("operator")
        )
        assert received(socket)["kind"] == "acknowledged"
        tenant.post([row(7.0)])
        assert received(socket)["kind"] == "resolved"
        assert nothing_comes(socket)


def test_other_tenants_hear_nothing(api: Api, tenant: Tenant) -> None:
    other = api.make_tenant()
    tenant.make_threshold(limit=8)
    with (
        listening(other) as theirs,
        listening(tenant, "super_admin") as everything,
        listening(tenant, "super_admin", tenant=other.slug) as chosen,
    ):
        tenant.post([row(8.5)])
        assert received(everything)["alert"]["tenant"] == tenant.slug
        assert nothing_comes(theirs) and nothing_comes(chosen)


def test_site_and_severity_choose(tenant: Tenant) -> None:
    tenant.make_sensor("s2", site_id=tenant.make_site("weir"))
    tenant.make_threshold(limit=8)
    tenant.make_threshold(limit=9, severity="critical")
    with listening(tenant, site="weir") as weir, listening(tenant, severity="critical") as critical:
        tenant.post([row(8.5), row(8.6, sensor="s2")])
        assert received(weir)["alert"]["sensor"] == "s2"
        assert nothing_comes(weir) and nothing_comes(critical)


def test_a_client_that_comes_back_misses_nothing(tenant: Tenant) -> None:
    tenant.make_threshold(limit=8)
    with listening(tenant) as socket:
        tenant.post([row(8.5, "2026-06-01T00:00:00Z")])
        last = received(socket)
    tenant.post([row(7, "2026-06-01T00:01:00Z")])
    tenant.post([row(8.7, "2026-06-01T00:02:00Z")])
    with listening(tenant, since=last["resume"]) as socket:
        again = [received(socket) for _ in range(2)]
        assert [event["kind"] for event in again] == ["resolved", "raised"]
        tenant.post([row(7, "2026-06-01T00:03:00Z")])
        assert received(socket)["kind"] == "resolved"
    with streaming(tenant, headers={"Last-Event-ID": str(last["resume"])}) as lines:
        assert [next(lines)["kind"] for _ in range(4)] == [
            "hello",
            "resolved",
            "raised",
            "resolved",
        ]


@contextmanager
def streaming(
    tenant: Tenant, headers: dict[str, str] | None = None, **params: Any
) -> Iterator[Iterator[dict[str, Any]]]:
    all_headers = tenant.headers("operator") | (headers or {})
    with httpx.stream(
        "GET", f"{tenant.api.url}/api/v1/live/sse", params=params, headers=all_headers, timeout=10
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        yield (json.loads(line[6:]) for line in lines if line.startswith("data: "))


def test_the_event_stream_says_the_same(tenant: Tenant) -> None:
    tenant.make_threshold(limit=8)
    with streaming(tenant) as events:
        assert next(events)["kind"] == "hello"
        tenant.post([row(8.5)])
        event = next(events)
        assert (event["kind"], event["alert"]["peak"]) == ("raised", 8.5)


def test_refusals_have_close_codes(tenant: Tenant) -> None:
    assert close_code(tenant, "")[0] == 4401
    assert close_code(tenant, "?access_token=hw_x")[0] == 4401
    assert close_code(tenant, "", tenant.headers("device"))[0] == 4403
    key = tenant.headers("operator")
    for query, code, word in (
        ("?severity=grave", 4400, "critical"),
        ("?sevrity=critical", 4400, "severity"),
        ("?site=nope", 4404, "site"),
        ("?since=-1", 4400, "since"),
        ("?tenant=nope", 4404, "tenant"),
    ):
        got, reason = close_code(tenant, query, key)
        assert got == code and word in reason
    answer = tenant.get("/api/v1/live/sse", role="operator", severity="grave")
    assert answer.status_code == 400
    bad = httpx.get(
        f"{tenant.api.url}/api/v1/live/sse", headers=key | {"Last-Event-ID": "x"}, timeout=5
    )
    assert bad.status_code == 400


def test_whoever_leaves_is_forgotten(tenant: Tenant) -> None:
    def subscribers() -> int:
        found: int = tenant.api.client.get("/api/status").json()["live"]["subscribers"]
        return found

    with listening(tenant), listening(tenant), streaming(tenant) as events:
        assert next(events)["kind"] == "hello"
        assert subscribers() == 3
    deadline = time.monotonic() + 10
    while subscribers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert subscribers() == 0


def test_a_reader_that_sleeps_is_closed_with_1013(serve: Callable[..., Api]) -> None:
    api = serve()
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.make_threshold(limit=8)
    url = f"ws://127.0.0.1:{api.port}/api/v1/live?access_token={tenant.key('operator')}"
    # a receive buffer of next to nothing, and nobody who empties it
    with websockets.sync.client.connect(url, max_queue=1) as asleep, listening(tenant) as awake:
        tenant.post([row(8.5)])
        event = received(awake)
        episode_id = event["alert"]["alert_id"]
        ((sensor_id,),) = api.sql(
            "select sensor_id from alert.episode where episode_id = %s", episode_id
        )
        api.sql(
            "insert into alert.outbox (tenant_id, sensor_id, episode_id, kind, severity, ts, value)"
            " select %s, %s, %s, 'raised', 'warning', now(), n from generate_series(1, 30000) as n",
            *(tenant.tenant_id, sensor_id, episode_id),
        )
        api.sql("notify alert_raised")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                asleep.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "too slow")


def test_live_push_outlives_the_database(serve: Callable[..., Api], database: Database) -> None:
    api = serve()
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.make_threshold(limit=8)
    with listening(tenant) as socket:
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'headwater-%' and datname = current_database()"
        )
        deadline = time.monotonic() + 15
        while tenant.post([row(8.5)]).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert received(socket, 15)["kind"] == "raised"
