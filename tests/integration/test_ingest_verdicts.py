"""One verdict per reading: what it says is what the database holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fix_server import Tenant, now, row

COUNTS = ("sent", "stored", "duplicate", "conflict", "late", "rejected")


def counts(answer: Any) -> dict[str, int]:
    """The counters that are not 0; they must add up."""
    said = {name: answer.json()[name] for name in COUNTS}
    assert said["stored"] + said["duplicate"] + said["conflict"] + said["rejected"] == said["sent"]
    assert said["late"] <= said["stored"]
    return {name: count for name, count in said.items() if count}


def verdicts(answer: Any) -> list[tuple[int, str, str | None]]:
    return [(v["index"], v["verdict"], v.get("field")) for v in answer.json()["verdicts"]]


def values(tenant: Tenant) -> list[float]:
    return [stored[3] for stored in tenant.stored()]


def test_sent_again_is_duplicate_and_another_value_is_conflict(tenant: Tenant) -> None:
    ts = now()
    assert counts(tenant.post(row(7, ts))) == {"sent": 1, "stored": 1}
    again = tenant.post(row(7, ts))
    assert (again.status_code, counts(again)) == (200, {"sent": 1, "duplicate": 1})
    assert verdicts(again) == [(0, "duplicate", None)]
    other = tenant.post(row(8, ts))
    assert (other.status_code, counts(other)) == (200, {"sent": 1, "conflict": 1})
    assert verdicts(other) == [(0, "conflict", "value")]
    assert "another value is stored" in other.json()["verdicts"][0]["reason"]
    assert values(tenant) == [7]


def test_the_same_time_written_differently_is_the_same_reading(tenant: Tenant) -> None:
    moment = datetime.now(UTC).replace(microsecond=0)
    tenant.post(row(7, moment.isoformat()))
    for ts in (int(moment.timestamp()), moment.strftime("%Y-%m-%dT%H:%M:%SZ")):
        assert counts(tenant.post(row(7, ts))) == {"sent": 1, "duplicate": 1}


def test_the_same_value_in_another_unit_is_duplicate(tenant: Tenant) -> None:
    ts = now()
    tenant.post(row(1500, ts, metric="conductivity"))
    answer = tenant.post(row(1.5, ts, metric="ec", unit="mS/cm"))
    assert counts(answer) == {"sent": 1, "duplicate": 1}


def test_duplicates_within_a_batch(tenant: Tenant) -> None:
    ts = now()
    answer = tenant.post([row(7, ts), row(7, ts), row(8, ts), row(7, ts)])
    assert counts(answer) == {"sent": 4, "stored": 1, "duplicate": 2, "conflict": 1}
    assert verdicts(answer) == [
        (1, "duplicate", None), (2, "conflict", "value"), (3, "duplicate", None)
    ]  # fmt: skip
    assert values(tenant) == [7]


def test_every_verdict_in_one_batch_in_the_order_sent(tenant: Tenant) -> None:
    ts, old = now(), (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    tenant.post([row(7, ts), row(20, ts, metric="temperature")])
    answer = tenant.post(
        [
            row(7, ts, sensor="nobody"),
            row(7, old),
            row(7, ts),
            row(7, ts, metric="nothing"),
            row(30, ts, metric="temperature"),
            row("x", ts),
            row(3, ts, metric="turbidity"),
            row(7, "noon"),
            row(7, ts, unit="mg/L"),
        ]
    )
    assert answer.status_code == 200
    assert counts(answer) == {
        "sent": 9, "stored": 2, "duplicate": 1, "conflict": 1, "late": 1, "rejected": 5
    }  # fmt: skip
    assert verdicts(answer) == [
        (0, "rejected", "sensor"),
        (1, "late", None),
        (2, "duplicate", None),
        (3, "rejected", "metric"),
        (4, "conflict", "value"),
        (5, "rejected", "value"),
        (7, "rejected", "ts"),
        (8, "rejected", "unit"),
    ]
    assert all(v["reason"] for v in answer.json()["verdicts"] if v["verdict"] == "rejected")


def test_index_of_a_columnar_body_counts_through_every_array(tenant: Tenant) -> None:
    ts = [now(), "noon", (datetime.now(UTC) - timedelta(hours=2)).isoformat()]
    body = [
        {"sensor": "nobody", "ts": ts[:1], "metrics": {"ph": [7]}},
        {"sensor": "s1", "ts": ts, "metrics": {"ph": [7, 7, None], "temperature": [1, None, 2]}},
    ]
    answer = tenant.post(body)
    assert counts(answer) == {"sent": 5, "stored": 3, "late": 1, "rejected": 2}
    assert verdicts(answer) == [(0, "rejected", "sensor"), (2, "rejected", "ts"), (6, "late", None)]


def test_late_means_stored_an_hour_after_its_time(tenant: Tenant) -> None:
    moments = [datetime.now(UTC) - timedelta(minutes=minutes) for minutes in (59, 61)]
    answer = tenant.post([row(7, moment.isoformat()) for moment in moments])
    assert counts(answer) == {"sent": 2, "stored": 2, "late": 1}
    assert verdicts(answer) == [(1, "late", None)]
    assert len(tenant.stored()) == 2


def test_minimal_reply_lists_only_what_needs_attention(tenant: Tenant) -> None:
    ts, old = now(), (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    tenant.post([row(7, ts), row(20, ts, metric="temperature")])
    answer = tenant.post(
        [row(7, ts), row(7, old), row(30, ts, metric="temperature"), row(7, "noon")],
        headers={"Prefer": "respond-async, return=minimal"},
    )
    assert counts(answer) == {
        "sent": 4, "stored": 1, "duplicate": 1, "conflict": 1, "late": 1, "rejected": 1
    }  # fmt: skip
    assert verdicts(answer) == [(2, "conflict", "value"), (3, "rejected", "ts")]


def test_when_nothing_is_accepted_the_status_says_so(tenant: Tenant) -> None:
    answer = tenant.post([row(7, "noon"), row("x")])
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    said = answer.json()
    assert (said["type"], said["status"]) == ("/problems/nothing-stored", 422)
    assert said["detail"].startswith("All 2 readings were rejected; the first: ts: 'noon' is not")
    assert counts(answer) == {"sent": 2, "rejected": 2}
    assert verdicts(answer) == [(0, "rejected", "ts"), (1, "rejected", "value")]


def test_a_wrong_clock_has_a_problem_type_of_its_own(tenant: Tenant) -> None:
    said = tenant.post([row(7, "2999-01-01T00:00:00Z"), row(7, "1970-01-01T00:00:00Z")]).json()
    assert (said["type"], said["status"]) == ("/problems/clock-window", 422)
    assert {verdict["type"] for verdict in said["verdicts"]} == {"/problems/clock-window"}
    mixed = tenant.post([row(7, "2999-01-01T00:00:00Z"), row("x")]).json()
    assert mixed["type"] == "/problems/nothing-stored"


def test_a_duplicate_beside_a_rejection_is_no_failure(tenant: Tenant) -> None:
    ts = now()
    tenant.post(row(7, ts))
    answer = tenant.post([row(7, ts), row("x")])
    assert (answer.status_code, counts(answer)) == (200, {"sent": 2, "duplicate": 1, "rejected": 1})


def test_big_batches_new_and_again_and_in_part(tenant: Tenant) -> None:
    start = int(datetime.now(UTC).timestamp()) - 3_000
    body = {
        "sensor": "s1",
        "ts": list(range(start, start + 2_500)),
        "metrics": {"ph": [7.0] * 2_500},
    }
    assert counts(tenant.post(body)) == {"sent": 2_500, "stored": 2_500}
    assert counts(tenant.post(body)) == {"sent": 2_500, "duplicate": 2_500}
    part = {
        "sensor": "s1",
        "ts": list(range(start + 1_250, start + 3_750)),
        "metrics": {"ph": [7.0, 8.0] * 1_250},
    }
    late = tenant.post(
        part | {"ts": part["ts"][:1_750], "metrics": {"ph": part["metrics"]["ph"][:1_750]}}
    )  # type: ignore[index]
    assert counts(late) == {"sent": 1_750, "stored": 500, "duplicate": 625, "conflict": 625}
    assert len(tenant.stored()) == 3_000


# Units


@pytest.mark.parametrize(
    ("metric", "unit", "sent", "stored"),
    [
        ("nitrate", None, 2, 2),
        ("nitrate", "mg/L as N", 2, 2),
        ("nitrate", "mg/L as NO3", 10, 10 * 14.0067 / 62.0049),
        ("NO3", "ug/L as NO3", 10_000, 10 * 14.0067 / 62.0049),
        ("phosphate", "mg/L as PO4", 1, 30.973762 / 94.9714),
        ("temperature", "°F", 50, 10),
        ("temp", "degF", 32, 0),
        ("00010", "K", 273.15, 0),
        ("temperature", "°C", 12.5, 12.5),
        ("conductivity", "mS/cm", 1.5, 1500),
        ("specific_conductance", "µS/cm", 300, 300),
        ("Specific_Conductance", "\N{GREEK SMALL LETTER MU}S/cm", 300, 300),
        ("flow", "m³/s", 4, 4),
        ("flow", "ft3/s", 100, 2.8316846592),
        ("pH", "  PH  Units ", 7, 7),
        ("dissolved_oxygen", "ppb", 8_000, 8),
        ("stage", "ft", 10, 3.048),
    ],
)
def test_units_are_converted_by_factor(
    tenant: Tenant, metric: str, unit: str | None, sent: float, stored: float
) -> None:
    answer = tenant.post(row(sent, metric=metric) | ({} if unit is None else {"unit": unit}))
    assert (answer.status_code, counts(answer)) == (200, {"sent": 1, "stored": 1})
    assert values(tenant) == [pytest.approx(stored, rel=1e-12, abs=1e-9)]


@pytest.mark.parametrize(
    ("metric", "unit", "remedy"),
    [
        ("nitrate", "mg/L", "send 'mg/L as N' or 'mg/L as NO3'"),
        ("ammonium", "ppm", "send 'mg/L as N' or 'mg/L as NH4'"),
        ("phosphate", "ug/l", "send 'mg/L as P' or 'mg/L as PO4'"),
        ("temperature", "furlongs", "not known for temperature; it is stored in degC"),
        ("ph", "", "not known for ph"),
        ("ph", "x" * 5_000, "not known for ph"),
        ("unobtainium", None, "GET /api/v1/metrics lists them"),
    ],
)
def test_units_and_metrics_that_are_not_known_are_refused_with_the_remedy(
    tenant: Tenant, metric: str, unit: str | None, remedy: str
) -> None:
    answer = tenant.post(row(1, metric=metric) | ({} if unit is None else {"unit": unit}))
    assert answer.status_code == 422
    (verdict,) = answer.json()["verdicts"]
    assert verdict["field"] == ("metric" if unit is None else "unit")
    assert remedy in verdict["reason"]
    assert len(verdict["reason"]) < 200
    assert tenant.stored() == []


def test_a_value_too_large_for_its_unit_is_refused(tenant: Tenant) -> None:
    answer = tenant.post([row(1e308, metric="conductivity", unit="S/m"), row(7)])
    assert verdicts(answer) == [(0, "rejected", "value")]


def test_a_value_whose_square_no_double_holds_is_refused(tenant: Tenant) -> None:
    answer = tenant.post(
        [row(1e200, metric="orp"), row(1e-200, metric="orp"), row(0, metric="orp")]
    )
    assert verdicts(answer) == [(0, "rejected", "value"), (1, "rejected", "value")]


# The clock


@pytest.mark.parametrize(
    ("ago", "field"),
    [
        (timedelta(minutes=-4), None),
        (timedelta(minutes=-6), "ts"),
        (timedelta(days=-365_000), "ts"),
        (timedelta(days=7_300), None),
        (timedelta(days=7_310), "ts"),
    ],
)
def test_the_clock_window(tenant: Tenant, ago: timedelta, field: str | None) -> None:
    answer = tenant.post([row(7, (datetime.now(UTC) - ago).isoformat()), row(6)])
    assert counts(answer)["stored"] == (2 if field is None else 1)
    if field:
        (verdict,) = answer.json()["verdicts"]
        assert (verdict["field"], "set the sensor's clock" in verdict["reason"]) == (field, True)


@pytest.mark.parametrize("ts", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 0, -62_135_596_800])
def test_times_at_the_ends_of_the_calendar_are_refused(tenant: Tenant, ts: Any) -> None:
    assert verdicts(tenant.post([row(7, ts), row(6)])) == [(0, "rejected", "ts")]
