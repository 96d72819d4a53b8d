"""Alerts and thresholds over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fix_server import Api, Tenant, row

T0 = datetime(2026, 6, 1, tzinfo=UTC)


def at(minutes: float) -> str:
    return (T0 + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def send(tenant: Tenant, values: dict[float, float], **more: Any) -> None:
    answer = tenant.post([row(value, at(minute), **more) for minute, value in values.items()])
    assert answer.json()["stored"] == len(values), answer.text


def alerts(tenant: Tenant, **params: Any) -> list[dict[str, Any]]:
    answer = tenant.get("/api/v1/alerts", **params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["alerts"]
    return found


def decide(
    tenant: Tenant, alert_id: int, what: str, body: Any = None, role: str = "operator"
) -> httpx.Response:
    return tenant.api.client.post(
        f"/api/v1/alerts/{alert_id}/{what}", json=body, headers=tenant.headers(role)
    )


def put(tenant: Tenant, role: str = "admin", params: Any = None, **body: Any) -> httpx.Response:
    whole = {"metric": "ph", "severity": "warning", "side": "high", "limit": 8} | body
    whole = {name: value for name, value in whole.items() if value is not ...}
    return tenant.api.client.put(
        "/api/v1/thresholds", json=whole, params=params, headers=tenant.headers(role)
    )


@pytest.fixture
def raised(tenant: Tenant) -> int:
    """An open alert's id: pH 8.5 and 8.9 over 8."""
    tenant.make_threshold(limit=8)
    send(tenant, {0: 7, 1: 8.5, 2: 8.9})
    (alert,) = alerts(tenant)
    return int(alert["alert_id"])


# alerts


def test_an_alert_says_what_and_where(tenant: Tenant) -> None:
    tenant.make_sensor("s2", site_id=tenant.make_site("weir", "north"))
    tenant.make_threshold(limit=8, severity="critical")
    send(tenant, {0: 7, 1: 8.5, 2: 8.9}, sensor="s2")
    (alert,) = alerts(tenant)
    assert tenant.get(f"/api/v1/alerts/{alert['alert_id']}").json() == alert
    del alert["alert_id"]
    assert alert == {
        "tenant": tenant.slug,
        "sensor": "s2",
        "site": "weir",
        "region": "north",
        "metric": "ph",
        "unit": "pH",
        "severity": "critical",
        "side": "high",
        "state": "open",
        "limit": 8.0,
        "peak": 8.9,
        "opened_at": at(1),
        "last_at": at(2),
        "resolved_at": None,
        "readings": 2,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "resolved_by": None,
        "note": None,
    }


def test_alerts_come_newest_first_in_pages(tenant: Tenant) -> None:
    tenant.make_threshold(limit=8)
    send(tenant, {minute: 9 if minute % 2 else 7 for minute in range(12)})
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = tenant.get("/api/v1/alerts", limit=4, **cursor).json()
        seen += [alert["opened_at"] for alert in page["alerts"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [at(minute) for minute in (11, 9, 7, 5, 3, 1)]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"state": "open"}, 1),
        ({"state": "resolved"}, 1),
        ({"state": "open,resolved"}, 2),
        ({"state": "pending"}, 0),
        ({"severity": "critical"}, 0),
        ({"sensor": "s1"}, 2),
        ({"metric": "pH"}, 2),
        ({"metric": "temp"}, 0),
        ({"region": "north"}, 0),
        ({"from": at(3)}, 1),
        ({"to": at(3)}, 1),
        ({"from": at(1), "to": at(4)}, 2),
    ],
)
def test_alerts_are_filtered(tenant: Tenant, filters: dict[str, Any], count: int) -> None:
    tenant.make_threshold(limit=8)
    send(tenant, {1: 9, 2: 7, 3: 9})
    assert len(alerts(tenant, **filters)) == count


def test_a_pending_alert_is_shown_only_when_asked_for(tenant: Tenant) -> None:
    assert put(tenant, min_duration_seconds=600).status_code == 200
    send(tenant, {0: 9})
    assert alerts(tenant) == []
    assert [alert["state"] for alert in alerts(tenant, state="pending")] == ["pending"]


@pytest.mark.parametrize(
    ("params", "word"), [({"state": "closed"}, "acknowledged"), ({"severity": "x"}, "critical")]
)
def test_a_wrong_filter_says_what_there_is(tenant: Tenant, params: Any, word: str) -> None:
    answer = tenant.get("/api/v1/alerts", **params)
    assert answer.status_code == 400 and word in answer.json()["detail"]


def test_decisions_are_recorded_with_who_and_why(tenant: Tenant, raised: int) -> None:
    by = tenant.key("operator").split("_")[1]
    seen = decide(tenant, raised, "acknowledge").json()
    assert (seen["state"], seen["acknowledged_by"], seen["note"]) == ("acknowledged", by, None)
    assert decide(tenant, raised, "investigate").json()["state"] == "investigating"
    over = decide(tenant, raised, "resolve", {"note": "probe cleaned"}).json()
    assert (over["state"], over["resolved_by"], over["note"]) == ("resolved", by, "probe cleaned")
    assert over["resolved_at"] is not None


def test_a_decision_that_the_state_does_not_permit_is_409(tenant: Tenant, raised: int) -> None:
    assert decide(tenant, raised, "acknowledge").status_code == 200
    again = decide(tenant, raised, "acknowledge")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/conflict")
    decide(tenant, raised, "resolve")
    for what in ("acknowledge", "investigate", "resolve"):
        assert decide(tenant, raised, what).status_code == 409


@pytest.mark.parametrize(
    ("body", "word"), [({"note": 3}, "note"), ({"remark": "x"}, "remark"), ({"note": "\0"}, "NUL")]
)
def test_a_wrong_note_is_named(tenant: Tenant, raised: int, body: Any, word: str) -> None:
    answer = decide(tenant, raised, "acknowledge", body)
    assert answer.status_code == 400 and word in answer.json()["detail"]


def test_another_tenants_alert_does_not_exist(api: Api, tenant: Tenant, raised: int) -> None:
    other = api.make_tenant()
    assert other.get(f"/api/v1/alerts/{raised}").status_code == 404
    assert decide(other, raised, "resolve").status_code == 404
    assert alerts(other) == []
    (alert,) = alerts(tenant)
    assert alert["state"] == "open"


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**40])
def test_an_impossible_number_is_404(tenant: Tenant, number: int) -> None:
    assert tenant.get(f"/api/v1/alerts/{number}").status_code == 404
    assert decide(tenant, number, "resolve").status_code == 404


def test_the_older_design_gets_a_plain_list(tenant: Tenant) -> None:
    tenant.make_sensor("s2", site_id=tenant.make_site("weir", "north"))
    tenant.make_threshold(limit=8, severity="critical")
    send(tenant, {1: 8.5}, sensor="s2")
    send(tenant, {1: 8.5})
    (alert,) = tenant.get("/api/alerts", region="north").json()
    assert alert.pop("alert_id") > 0
    assert alert == {
        "sensor_id": "s2",
        "region": "north",
        "metric": "ph",
        "severity": "critical",
        "status": "open",
        "message": "ph 8.5 above the critical limit 8 at weir",
        "timestamp": at(1),
        "value": 8.5,
    }
    assert len(tenant.get("/api/alerts").json()) == 2


# thresholds


def test_a_threshold_is_set_replaced_and_removed(tenant: Tenant) -> None:
    first = put(tenant, limit=8.5).json()
    second = put(tenant, limit=9, hysteresis=0.2, title="spring").json()
    assert first["threshold_id"] == second["threshold_id"]
    assert (second["scope"], second["limit"], second["hysteresis"]) == ("tenant", 9.0, 0.2)
    assert tenant.get("/api/v1/thresholds").json()["thresholds"] == [second]
    path = f"/api/v1/thresholds/{second['threshold_id']}"
    client, headers = tenant.api.client, tenant.headers("admin")
    assert client.delete(path, headers=headers).status_code == 204
    assert client.delete(path, headers=headers).status_code == 404
    assert tenant.get("/api/v1/thresholds").json()["thresholds"] == []


def test_the_most_specific_threshold_judges(tenant: Tenant) -> None:
    site_id = tenant.make_site("weir")
    tenant.make_sensor("s2", site_id=site_id)
    tenant.make_sensor("s3", site_id=site_id)
    put(tenant, limit=8)
    assert put(tenant, limit=8.5, site="weir").json()["scope"] == "site"
    assert put(tenant, limit=9, sensor="s3").json()["sensor"] == "s3"
    for sensor in ("s1", "s2", "s3"):
        send(tenant, {0: 8.2, 1: 7, 2: 8.7, 3: 7}, sensor=sensor)
    assert [a["sensor"] for a in alerts(tenant)].count("s1") == 2
    assert [a["sensor"] for a in alerts(tenant)].count("s2") == 1
    assert [a["sensor"] for a in alerts(tenant)].count("s3") == 0
    found = tenant.get("/api/v1/thresholds", site="weir").json()["thresholds"]
    assert [threshold["limit"] for threshold in found] == [8.5]


def test_another_unit_is_converted_and_said(tenant: Tenant) -> None:
    found = put(tenant, metric="temp", limit=77, unit="°F", hysteresis=1.8).json()
    assert (found["metric"], found["unit"]) == ("temperature", "degC")
    assert (found["limit"], found["hysteresis"]) == pytest.approx((25, 1))


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"metric": ...}, 400, "metric"),
        ({"metric": "nope"}, 404, "metric"),
        ({"severity": "grave"}, 400, "critical"),
        ({"side": "left"}, 400, "low"),
        ({"limit": "high"}, 400, "limit"),
        ({"limit": None}, 400, "limit"),
        ({"unit": "furlong"}, 400, "pH"),
        ({"metric": "nitrate", "unit": "mg/L"}, 400, "mg/L as N"),
        ({"metric": "flow", "unit": "m3/s", "limit": 1.7e308, "hysteresis": -1}, 400, "hysteresis"),
        ({"metric": "conductivity", "unit": "S/m", "limit": 1.7e308}, 400, "limit"),
        ({"min_duration_seconds": -1}, 400, "min_duration_seconds"),
        ({"min_duration_seconds": 1e300}, 400, "min_duration_seconds"),
        ({"site": "nope"}, 404, "site"),
        ({"sensor": "nope"}, 404, "sensor"),
        ({"sensor": "s1", "site": "x"}, 400, "site"),
        ({"sensor": "a\0b"}, 404, "sensor"),
        ({"metric": "a\0b"}, 404, "metric"),
        ({"unit": "a\0b"}, 400, "unit"),
        ({"title": "a\0b"}, 400, "title"),
        ({"title": "x" * 201}, 400, "title"),
        ({"lmit": 8}, 400, "lmit"),
        ({"title": "x" * 100_000}, 413, "Large"),
    ],
)
def test_a_wrong_threshold_is_named(tenant: Tenant, body: Any, status: int, word: str) -> None:
    answer = put(tenant, **body)
    assert answer.status_code == status and word in answer.json()["detail"], answer.text
    assert tenant.get("/api/v1/thresholds").json()["thresholds"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 60_000])
def test_a_broken_body_is_400(tenant: Tenant, body: bytes) -> None:
    headers = tenant.headers("admin") | {"Content-Type": "application/json"}
    answer = tenant.api.client.put("/api/v1/thresholds", content=body, headers=headers)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("field", ["metric", "site", "sensor", "title", "unit", "severity"])
def test_text_that_is_no_unicode_is_refused(tenant: Tenant, field: str) -> None:
    body = '{"metric":"ph","severity":"warning","side":"high","limit":8,"FIELD":"\\ud800"}'
    headers = tenant.headers("admin") | {"Content-Type": "application/json"}
    answer = tenant.api.client.put(
        "/api/v1/thresholds", content=body.replace("FIELD", field), headers=headers
    )
    assert answer.status_code in (400, 404), answer.text


def test_the_platforms_defaults_are_the_super_admins(api: Api, tenant: Tenant) -> None:
    default = put(tenant, "super_admin", metric="arsenic", limit=10).json()
    assert default["scope"] == "platform" and default["tenant"] is None
    path = f"/api/v1/thresholds/{default['threshold_id']}"
    assert tenant.get("/api/v1/thresholds").json()["thresholds"] == [default]
    assert api.client.delete(path, headers=tenant.headers("admin")).status_code == 404
    unclear = put(tenant, "super_admin", sensor="s1")
    assert unclear.status_code == 400 and "tenant" in unclear.json()["detail"]
    ours = put(tenant, "super_admin", params={"tenant": tenant.slug}, sensor="s1").json()
    assert (ours["tenant"], ours["sensor"]) == (tenant.slug, "s1")
    assert api.client.delete(path, headers=tenant.headers("super_admin")).status_code == 204


def test_another_tenants_threshold_does_not_exist(api: Api, tenant: Tenant) -> None:
    threshold_id = put(tenant).json()["threshold_id"]
    other = api.make_tenant()
    assert other.get("/api/v1/thresholds").json()["thresholds"] == []
    answer = api.client.delete(f"/api/v1/thresholds/{threshold_id}", headers=other.headers("admin"))
    assert answer.status_code == 404
    assert put(other, sensor="s1").status_code == 404
