"""What a stored batch sets off: the latest reading, alerts, the kept reply."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fix_server import Tenant, now, row


def latest(tenant: Tenant) -> dict[tuple[str, str], tuple[str, float]]:
    """What GET /api/v1/latest says, at once."""
    answer = tenant.get("/api/v1/latest")
    assert answer.status_code == 200, answer.text
    return {(it["sensor"], it["metric"]): (it["ts"], it["value"]) for it in items(answer.json())}


def items(document: Any) -> list[dict[str, Any]]:
    """The list in a page."""
    return (
        document
        if isinstance(document, list)
        else next(v for v in document.values() if isinstance(v, list))
    )


def ago(seconds: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds)


def episodes(tenant: Tenant) -> list[tuple[Any, ...]]:
    return tenant.api.sql(
        "select side, severity, state, opened_at, last_at, peak, reading_count from alert.episode"
        " where tenant_id = %s order by opened_at, severity",
        tenant.tenant_id,
    )


def events(tenant: Tenant) -> list[str]:
    tenant.api.sql("select alert.collect()")
    rows = tenant.api.sql(
        "select kind from alert.outbox where tenant_id = %s order by outbox_id", tenant.tenant_id
    )
    return [kind for (kind,) in rows]


# Latest


def test_latest_is_there_with_the_answer(tenant: Tenant) -> None:
    for value in range(20):
        ts = now()
        assert tenant.post(row(value, ts)).status_code == 200
        assert latest(tenant)["s1", "ph"][1] == value


def test_latest_is_the_newest_whatever_the_order_of_arrival(tenant: Tenant) -> None:
    tenant.make_sensor("s2")
    times = [ago(30), ago(10), ago(20)]
    tenant.post([row(value, ts.isoformat()) for value, ts in enumerate(times)])
    tenant.post([row(5, ago(60).isoformat()), row(6, ago(70).isoformat(), sensor="s2")])
    found = latest(tenant)
    assert {name: value for name, (_, value) in found.items()} == {("s1", "ph"): 1, ("s2", "ph"): 6}
    assert datetime.fromisoformat(found["s1", "ph"][0]) == times[1]


def test_a_conflicting_value_does_not_become_the_latest(tenant: Tenant) -> None:
    ts = now()
    tenant.post(row(7, ts))
    tenant.post(row(8, ts))
    assert latest(tenant)["s1", "ph"][1] == 7


# Alerts


def test_a_violation_opens_one_episode_and_duplicates_open_none(tenant: Tenant) -> None:
    tenant.make_threshold("ph", "high", 8)
    first, second = ago(60), ago(30)
    body = [row(7, ago(90).isoformat()), row(8.5, first.isoformat()), row(9, second.isoformat())]
    assert tenant.post(body).json()["stored"] == 3
    expected = [("high", "warning", "open", first, second, 9, 2)]
    assert episodes(tenant) == expected
    assert tenant.post(body).json()["duplicate"] == 3
    assert tenant.post([*body, row(99, second.isoformat())]).json()["conflict"] == 1
    assert (episodes(tenant), events(tenant)) == (expected, ["raised"])


def test_a_clear_value_in_another_batch_resolves_it(tenant: Tenant) -> None:
    tenant.make_threshold("ph", "high", 8)
    tenant.post(row(9, ago(60).isoformat()))
    tenant.post(row(7, ago(30).isoformat()))
    assert [episode[2] for episode in episodes(tenant)] == ["resolved"]
    assert events(tenant) == ["raised", "resolved"]


def test_a_new_threshold_counts_for_the_next_batch(tenant: Tenant) -> None:
    tenant.post(row(9, ago(60).isoformat()))
    assert episodes(tenant) == []
    tenant.make_threshold("ph", "high", 8)
    tenant.post(row(9, ago(30).isoformat()))
    assert [episode[-1] for episode in episodes(tenant)] == [1]


def test_the_limit_is_compared_in_the_stored_unit(tenant: Tenant) -> None:
    tenant.make_threshold("temperature", "high", 25)
    tenant.post(
        [row(77.1, metric="temp", unit="°F", ts=ago(5).isoformat()), row(26, metric="nothing")]
    )
    assert [episode[5] for episode in episodes(tenant)] == [pytest.approx(25.0556, abs=1e-3)]


def test_rejected_readings_raise_nothing(tenant: Tenant) -> None:
    tenant.make_threshold("ph", "high", 8)
    tenant.post([row(9, unit="mg/L"), row(9, "noon"), row(9, sensor="nobody"), row(7)])
    assert episodes(tenant) == []


# Idempotency-Key


def test_the_same_request_gets_the_same_answer_again(tenant: Tenant) -> None:
    body = [row(7), row("x")]
    first = tenant.post(body, headers={"Idempotency-Key": "a b-1"})
    again = tenant.post(body, headers={"Idempotency-Key": "a b-1"})
    assert (first.status_code, first.json()["stored"]) == (200, 1)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == "application/json"
    other_key = tenant.post(body, headers={"Idempotency-Key": "a b-2"})
    assert other_key.json()["duplicate"] == 1


def test_another_body_under_the_same_key_is_refused(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": "k"}
    tenant.post(row(7), headers=headers)
    answer = tenant.post(row(8), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert len(tenant.stored()) == 1


def test_the_same_body_in_another_precision_is_another_request(tenant: Tenant) -> None:
    body = json.dumps(row(7, 1_700_000_000)).encode()
    headers = {"Idempotency-Key": "k"}
    assert tenant.post(body, headers=headers).status_code == 200
    assert tenant.post(body, "/api/v1/readings?precision=ms", headers=headers).status_code == 422


def test_a_key_belongs_to_who_sent_it(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": "k"}
    tenant.post(row(7), headers=headers)
    assert tenant.post(row(8), headers=headers, key=tenant.key("admin")).status_code == 200


def test_a_request_that_failed_may_be_mended_under_its_key(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": "k"}
    assert tenant.post(row("x"), headers=headers).status_code == 422
    assert tenant.post(row(7), headers=headers).json()["stored"] == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_keys_that_are_none(tenant: Tenant, key: str) -> None:
    answer = tenant.post(row(), headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request")
    assert "Idempotency-Key" in answer.json()["detail"]
