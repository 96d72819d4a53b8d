"""Reads over HTTP: catalogue, readings in every form, paging, rollups and gaps, newest values."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fix_server import Api, Tenant, row

T0 = datetime(2026, 6, 1, tzinfo=UTC)


def at(minutes: float) -> str:
    return (T0 + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def send(tenant: Tenant, values: dict[float, float], **more: Any) -> None:
    """One reading for each minute after T0."""
    rows = [row(value, at(minute), **more) for minute, value in values.items()]
    answer = tenant.post(rows)
    assert answer.json()["stored"] == len(values), answer.text


def readings(tenant: Tenant, **params: Any) -> dict[str, Any]:
    params = {"from": at(0), "to": at(600)} | params
    answer = tenant.get("/api/v1/readings", **params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(tenant: Tenant, path: str = "/api/v1/readings", /, **params: Any) -> tuple[int, str]:
    answer = tenant.get(path, **params)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["detail"]


# catalogue


def test_sensors_show_their_site_and_what_they_report(tenant: Tenant) -> None:
    tenant.make_sensor("s2", site_id=tenant.make_site("weir", "north"), status="maintenance")
    send(tenant, {0: 7.0, 5: 7.1}, sensor="s2")
    (found,) = tenant.get("/api/v1/sensors", region="north").json()["sensors"]
    assert found["sensor"] == "s2" and found["site"] == "weir" and found["tenant"] == tenant.slug
    assert (found["status"], found["metrics"]) == ("maintenance", ["ph"])


@pytest.mark.parametrize(
    ("filters", "uids"),
    [
        ({"site": "weir"}, ["a_1"]),
        ({"status": "retired"}, ["b-2"]),
        ({"status": "retired,active"}, ["a_1", "b-2", "s1"]),
        ({"q": "_"}, ["a_1"]),
        ({"q": "B-"}, ["b-2"]),
        ({"q": "%"}, []),
        ({"region": ["north", "south"]}, ["a_1"]),
    ],
)
def test_sensors_are_filtered(tenant: Tenant, filters: dict[str, Any], uids: list[str]) -> None:
    tenant.make_sensor("a_1", site_id=tenant.make_site("weir", "north"))
    tenant.make_sensor("b-2", status="retired")
    found = tenant.get("/api/v1/sensors", **filters).json()["sensors"]
    assert [sensor["sensor"] for sensor in found] == uids


def test_sensors_pages_have_every_sensor_once(tenant: Tenant) -> None:
    for number in range(2, 8):
        tenant.make_sensor(f"s{number}")
    seen, cursor = [], None
    while True:
        page = tenant.get(
            "/api/v1/sensors", limit=3, **({"cursor": cursor} if cursor else {})
        ).json()
        seen += [sensor["sensor"] for sensor in page["sensors"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"s{number}" for number in range(1, 8)]


def test_sites_count_their_sensors(tenant: Tenant) -> None:
    tenant.make_sensor("s2", site_id=tenant.make_site("weir"))
    (site,) = tenant.get("/api/v1/sites").json()["sites"]
    assert (site["site"], site["region"], site["sensors"]) == ("weir", "north", 1)


def test_metrics_have_their_names_and_units(tenant: Tenant) -> None:
    metrics = {m["metric"]: m for m in tenant.get("/api/v1/metrics").json()["metrics"]}
    assert metrics["temperature"]["unit"] == "degC" and "temp" in metrics["temperature"]["aliases"]
    units = {unit["unit"]: unit for unit in metrics["nitrate"]["units"]}
    assert units["mg/l"]["factor"] is None and "mg/L as N" in units["mg/l"]["refusal"]


# raw readings


def test_raw_readings_come_in_order_with_their_unit(tenant: Tenant) -> None:
    send(tenant, {10: 7.2, 0: 7.0})
    send(tenant, {10: 68}, metric="temp", unit="degF")
    found = readings(tenant)
    assert found["resolution"] == "raw" and found["next_cursor"] is None
    assert [(r["metric"], r["ts"], r["value"], r["unit"]) for r in found["readings"]] == [
        ("ph", at(0), 7.0, "pH"),
        ("ph", at(10), 7.2, "pH"),
        ("temperature", at(10), 20.0, "degC"),
    ]


def test_the_span_has_its_begin_and_not_its_end(tenant: Tenant) -> None:
    send(tenant, {0: 7.0, 1: 7.1, 2: 7.2})
    found = readings(tenant, **{"from": at(0), "to": at(2)})
    assert [r["value"] for r in found["readings"]] == [7.0, 7.1]


def test_times_may_be_epoch_seconds_or_have_an_offset(tenant: Tenant) -> None:
    send(tenant, {0: 7.0})
    for begin in (T0.timestamp(), "2026-06-01T02:00:00+02:00", "2026-06-01T02:00:00 02:00"):
        assert readings(tenant, **{"from": begin})["count"] == 1


@pytest.mark.parametrize(
    "filters",
    [
        {"sensor": "s2"},
        {"sensor": ["s2"], "metric": "pH"},
        {"metric": "00400", "site": "weir"},
        {"sensor": "s2,s2", "metric": "ph,ph"},
    ],
)
def test_readings_are_filtered(tenant: Tenant, filters: dict[str, Any]) -> None:
    tenant.make_sensor("s2", site_id=tenant.make_site("weir"))
    send(tenant, {0: 7.0})
    send(tenant, {0: 7.5}, sensor="s2")
    if "metric" in filters:
        send(tenant, {0: 11}, sensor="s2", metric="temp")
    assert [r["value"] for r in readings(tenant, **filters)["readings"]] == [7.5]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_have_every_reading_once(tenant: Tenant, limit: int) -> None:
    tenant.make_sensor("s2")
    for sensor in ("s1", "s2"):
        send(tenant, {0: 7.0, 1: 7.1}, sensor=sensor)
        send(tenant, {0: 10, 1: 11}, sensor=sensor, metric="temp")
    seen: list[tuple[str, str, str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = readings(tenant, limit=limit, **cursor)
        seen += [(r["ts"], r["sensor"], r["metric"]) for r in page["readings"]]
        assert page["count"] <= limit
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen)) == 8 and seen == sorted(seen)


def test_ndjson_and_csv_say_the_same_as_json(tenant: Tenant) -> None:
    tenant.make_sensor('a "b", c')
    send(tenant, {0: 7.0, 1: 7.1, 2: 7.2})
    send(tenant, {3: 7.3}, sensor='a "b", c')
    expected = readings(tenant)["readings"]

    def get(media_type: str, **params: Any) -> Any:
        return tenant.api.client.get(
            "/api/v1/readings",
            params={"from": at(0), "to": at(600)} | params,
            headers=tenant.headers("scientist") | {"Accept": media_type},
        )

    lines = get("application/x-ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == expected
    table = get("text/csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert list(csv.DictReader(io.StringIO(table.text))) == [
        {name: str(value) for name, value in reading.items()} for reading in expected
    ]
    page = get("text/csv", limit=2)
    following = tenant.api.client.get(
        page.links["next"]["url"], headers=tenant.headers("scientist") | {"Accept": "text/csv"}
    )
    assert len(following.text.splitlines()) == 3 and "next" not in following.links
    assert page.headers["headwater-resolution"] == "raw"


def test_a_long_stream_ends_where_its_link_says(tenant: Tenant) -> None:
    count = 12_003
    times = [(T0 + timedelta(seconds=n)).timestamp() for n in range(count)]
    body = {
        "sensor": "s1",
        "ts": times,
        "metrics": {"ph": [7.0 + n % 100 / 100 for n in range(count)]},
    }
    assert tenant.post(body).json()["stored"] == count
    seen = []
    url = f"/api/v1/readings?from={at(0)}&to={at(600)}&limit=11000"
    for expected in (11_000, count - 11_000):
        answer = tenant.api.client.get(
            url, headers=tenant.headers("scientist") | {"Accept": "application/x-ndjson"}
        )
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert len(lines) == expected
        seen += [line["ts"] for line in lines]
        url = answer.links.get("next", {}).get("url", "")
    assert url == "" and len(set(seen)) == count and seen == sorted(seen)


# rollups


def test_the_resolution_follows_the_span(tenant: Tenant) -> None:
    for minutes, resolution in ((1440, "raw"), (1441, "1m"), (2001, "1h"), (121_000, "1d")):
        assert readings(tenant, to=at(minutes))["resolution"] == resolution


def test_rollups_agree_with_the_readings(tenant: Tenant) -> None:
    send(tenant, {0: 7.0, 20: 8.0, 59: 9.0, 60: 5.0})
    first, second = readings(tenant, resolution="1h", to=at(120))["readings"]
    assert (first["bucket"], first["n"], first["avg"], first["min"], first["max"]) == (
        *(at(0), 3, 8.0, 7.0),
        9.0,
    )
    assert (first["first"], first["last"], first["is_filled"]) == (7.0, 9.0, False)
    assert (second["bucket"], second["n"]) == (at(60), 1)
    (day,) = readings(tenant, resolution="1d")["readings"]
    assert (day["n"], day["avg"]) == (4, 7.25)


def test_a_rollup_begins_with_the_bucket_that_holds_from(tenant: Tenant) -> None:
    send(tenant, {5: 7.0})
    found = readings(tenant, resolution="1h", **{"from": at(30)})
    assert found["from"] == at(0) and found["count"] == 1


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("none", [7.0, 10.0]),
        ("null", [None, 7.0, None, None, 10.0, None]),
        ("previous", [None, 7.0, 7.0, 7.0, 10.0, 10.0]),
        ("linear", [None, 7.0, 8.0, 9.0, 10.0, None]),
    ],
)
def test_gaps_are_filled(tenant: Tenant, fill: str, expected: list[float | None]) -> None:
    send(tenant, {60: 7.0, 240: 10.0})
    found = readings(tenant, resolution="1h", fill=fill, to=at(360))
    assert [r["avg"] for r in found["readings"]] == pytest.approx(expected)
    assert [r["is_filled"] for r in found["readings"]] == [
        reading["n"] == 0 for reading in found["readings"]
    ]


def test_pages_of_filled_gaps_have_every_bucket_once(tenant: Tenant) -> None:
    send(tenant, {0: 7.0, 240: 10.0})
    send(tenant, {60: 1.0}, metric="turbidity")
    whole = readings(tenant, resolution="1h", fill="linear", to=at(360))["readings"]
    assert len(whole) == 12
    page = readings(tenant, resolution="1h", fill="linear", to=at(360), limit=7)
    rest = readings(tenant, resolution="1h", fill="linear", to=at(360), cursor=page["next_cursor"])
    assert page["readings"] + rest["readings"] == whole


# refusals


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({"sensor": "nope"}, 404, ("sensor", "nope")),
        ({"metric": "nope"}, 404, ("metric", "nope")),
        ({"site": "nope"}, 404, ("site", "nope")),
        ({"tenant": "nope"}, 404, ("tenant", "nope")),
        ({"sensr": "s1"}, 400, ("sensr", "sensor")),
        ({"from": "yesterday"}, 400, ("from", "yesterday")),
        ({"from": "2026-06-01T00:00:00"}, 400, ("from", "offset")),
        ({"to": 17_600_000_000_000}, 400, ("to", "epoch")),
        ({"from": at(1), "to": at(0)}, 400, ("from", "before")),
        ({"resolution": "5m"}, 400, ("resolution", "1h")),
        ({"fill": "zero"}, 400, ("fill", "linear")),
        ({"fill": "null", "resolution": "raw"}, 400, ("fill", "raw")),
        ({"limit": 0}, 400, ("limit",)),
        ({"limit": 100_001}, 400, ("limit",)),
        ({"limit": "many"}, 400, ("limit",)),
        ({"cursor": "abc"}, 400, ("cursor",)),
        ({"cursor": "WyJhbGVydHMiLDEsMV0"}, 400, ("cursor",)),
        ({"sensor": "a\0b"}, 400, ("sensor", "NUL")),
    ],
)
def test_a_wrong_parameter_is_named(
    tenant: Tenant, params: dict[str, Any], status: int, words: tuple[str, ...]
) -> None:
    got, detail = refused(tenant, **params)
    assert got == status and all(word in detail for word in words), detail


def test_a_grid_without_measure_is_refused(tenant: Tenant) -> None:
    send(tenant, {0: 7.0})
    status, detail = refused(
        tenant, **{"from": "1990-01-01T00:00:00Z", "to": at(0)}, resolution="1m", fill="null"
    )
    assert status == 400 and "coarser" in detail


def test_formats_that_are_not_offered_are_406(tenant: Tenant) -> None:
    answer = tenant.api.client.get(
        "/api/v1/readings", headers=tenant.headers("scientist") | {"Accept": "image/png"}
    )
    assert answer.status_code == 406 and "text/csv" in answer.json()["detail"]


# tenants


def test_another_tenants_things_do_not_exist(api: Api, tenant: Tenant) -> None:
    other = api.make_tenant()
    other.make_sensor("theirs", site_id=other.make_site("their-site"))
    send(other, {0: 7.0}, sensor="theirs")
    assert readings(tenant)["count"] == 0
    assert refused(tenant, sensor="theirs")[0] == refused(tenant, site="their-site")[0] == 404
    assert refused(tenant, tenant=other.slug)[0] == 404
    assert refused(tenant, "/api/sensors/latest", sensor_id="theirs")[0] == 404
    for path, name in (("sensors", "sensors"), ("sites", "sites"), ("latest", "latest")):
        found = tenant.get(f"/api/v1/{path}").json()[name]
        assert "their" not in json.dumps(found)


def test_a_super_admin_says_whose_readings(api: Api, tenant: Tenant) -> None:
    other = api.make_tenant()
    other.make_sensor("s1")
    send(tenant, {0: 7.0})
    send(other, {0: 8.0})
    params = {"from": at(0), "to": at(600), "sensor": "s1"}
    ours = tenant.get("/api/v1/readings", role="super_admin", tenant=tenant.slug, **params)
    assert [r["value"] for r in ours.json()["readings"]] == [7.0]
    unclear = tenant.get("/api/v1/readings", role="super_admin", **params)
    assert unclear.status_code == 400 and "tenant" in unclear.json()["detail"]


# newest values


def test_a_client_reads_its_own_writes(tenant: Tenant) -> None:
    for number in range(20):
        value = 6 + number / 10
        send(tenant, {number: value})
        (found,) = tenant.get("/api/v1/latest", sensor="s1", metric="pH").json()["latest"]
        assert (found["value"], found["ts"]) == (value, at(number))


def test_a_late_reading_is_not_the_newest(tenant: Tenant) -> None:
    send(tenant, {10: 7.5})
    send(tenant, {5: 7.0})
    (found,) = tenant.get("/api/v1/latest").json()["latest"]
    assert found["value"] == 7.5


def test_latest_pages_have_every_datastream_once(tenant: Tenant) -> None:
    for metric in ("ph", "temp", "turbidity"):
        send(tenant, {0: 7.0}, metric=metric)
    page = tenant.get("/api/v1/latest", limit=2).json()
    rest = tenant.get("/api/v1/latest", limit=2, cursor=page["next_cursor"]).json()
    found = [one["metric"] for one in page["latest"] + rest["latest"]]
    assert found == ["ph", "temperature", "turbidity"] and rest["next_cursor"] is None


def test_the_older_design_gets_one_flat_object(tenant: Tenant) -> None:
    tenant.post({"sensor_id": "s1", "pH": 7.2, "temp": 15.4}, "/api/sensors/data")
    found = tenant.get("/api/sensors/latest", sensor_id="s1").json()
    assert found.pop("timestamp").endswith("Z")
    assert found == {"sensor_id": "s1", "pH": 7.2, "temp": 15.4}


def test_the_older_design_says_when_there_is_nothing(tenant: Tenant) -> None:
    assert "not sent" in refused(tenant, "/api/sensors/latest", sensor_id="s1")[1]
    assert refused(tenant, "/api/sensors/latest")[0] == 400
