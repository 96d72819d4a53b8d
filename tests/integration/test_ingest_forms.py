"""POST /api/v1/readings over HTTP: every form of body, encoding and time ends as the same readings."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from fix_server import Tenant, row

T0 = datetime(2024, 5, 1, 12, tzinfo=UTC)
EPOCH = int(T0.timestamp())
NDJSON = "application/x-ndjson"


def at(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat()


ROWS = [
    row(7.25, at(0)),
    row(7.5, at(60)),
    row(11.5, at(0), metric="temperature"),
    row(6.5, at(0), sensor="s2"),
]
STORED = [
    ("s1", "ph", T0, 7.25, 2),
    ("s1", "ph", T0 + timedelta(seconds=60), 7.5, 2),
    ("s1", "temperature", T0, 11.5, 2),
    ("s2", "ph", T0, 6.5, 2),
]
S1 = {
    "sensor": "s1",
    "ts": [at(0), at(60)],
    "metrics": {"ph": [7.25, 7.5], "temperature": [11.5, None]},
}
S2 = {"sensor": "s2", "ts": [at(0)], "metrics": {"ph": [6.5]}}


def lines(*documents: Any) -> bytes:
    return b"\n".join(json.dumps(document).encode() for document in documents)


@pytest.fixture
def tenant(tenant: Tenant) -> Tenant:
    tenant.make_sensor("s2")
    return tenant


@pytest.mark.parametrize(
    "body",
    [ROWS, {"readings": ROWS}, [S1, S2], {"series": [S1, S2]}, [S1, ROWS[3]]],
    ids=["rows", "readings", "columns", "series", "mixed"],
)
def test_json_bodies(tenant: Tenant, body: Any) -> None:
    answer = tenant.post(body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert [verdict["verdict"] for verdict in said.pop("verdicts")] == ["late"] * 4
    assert said == {
        "sent": 4, "stored": 4, "duplicate": 0, "conflict": 0, "late": 4, "rejected": 0
    }  # fmt: skip
    assert tenant.stored() == STORED


def test_single_row_and_single_columns(tenant: Tenant) -> None:
    for body in (S1, ROWS[3]):
        assert tenant.post(body).status_code == 200
    assert tenant.stored() == STORED


@pytest.mark.parametrize("content_type", [NDJSON, "application/jsonl", f"{NDJSON}; charset=utf-8"])
def test_lines(tenant: Tenant, content_type: str) -> None:
    answer = tenant.post(lines(S1, ROWS[3]) + b"\n", headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["stored"]) == (200, 4)
    assert tenant.stored() == STORED


def test_json_without_content_type_and_as_curl_sends_it(tenant: Tenant) -> None:
    for body, content_type in (
        (lines(ROWS[:2]), ""),
        (lines(ROWS[2:]), "application/x-www-form-urlencoded"),
    ):
        assert tenant.post(body, headers={"Content-Type": content_type}).status_code == 200
    assert tenant.stored() == STORED


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity", "GZip"])
@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_encodings(tenant: Tenant, encoding: str, content_type: str) -> None:
    pack: Callable[[bytes], bytes] = {
        "gzip": gzip.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }.get(encoding.lower(), bytes)
    body = lines(*ROWS) if content_type == NDJSON else lines(ROWS)
    answer = tenant.post(
        pack(body), headers={"Content-Encoding": encoding, "Content-Type": content_type}
    )
    assert answer.status_code == 200, answer.text
    assert tenant.stored() == STORED


def test_chunked_transfer(tenant: Tenant) -> None:
    def pieces() -> Iterator[bytes]:
        body = lines(ROWS)
        yield body[:50]
        yield body[50:]

    answer = tenant.api.client.post(
        "/api/v1/readings",
        content=pieces(),
        headers={**tenant.headers(), "Content-Type": "application/json"},
    )
    assert answer.status_code == 200
    assert tenant.stored() == STORED


@pytest.mark.parametrize(
    ("precision", "ts"),
    [
        ("s", EPOCH),
        ("s", EPOCH + 0.25),
        ("ms", EPOCH * 1_000 + 250),
        ("us", EPOCH * 1_000_000 + 250_000),
        ("ns", EPOCH * 1_000_000_000 + 250_000_000),
    ],
)
def test_epoch_times(tenant: Tenant, precision: str, ts: float) -> None:
    for body in (row(7, ts), {"sensor": "s2", "ts": [ts], "metrics": {"ph": [7]}}):
        assert tenant.post(body, f"/api/v1/readings?precision={precision}").status_code == 200
    expected = T0 + timedelta(milliseconds=0 if ts == EPOCH else 250)
    assert [stored[2] for stored in tenant.stored()] == [expected, expected]


def test_times_with_an_offset_and_microseconds(tenant: Tenant) -> None:
    assert tenant.post(row(7, "2024-05-01T14:00:00.000001+02:00")).status_code == 200
    assert [stored[2] for stored in tenant.stored()] == [T0 + timedelta(microseconds=1)]


def test_every_bit_of_a_value_is_kept(tenant: Tenant) -> None:
    values = [0.1, 1 / 3, -5e-119, 1.7976931348623157e119, 123456789.123456789, -0.0]
    body = {
        "sensor": "s1",
        "ts": list(range(EPOCH, EPOCH + len(values))),
        "metrics": {"orp": values},
    }
    assert tenant.post(body).status_code == 200
    assert [stored[3].hex() for stored in tenant.stored()] == [value.hex() for value in values]


def test_implausible_values_are_stored_and_flagged(tenant: Tenant) -> None:
    body = {
        "sensor": "s1",
        "ts": [EPOCH, EPOCH + 1, EPOCH + 2],
        "metrics": {"ph": [-0.5, 14, 14.01]},
    }
    assert tenant.post(body).json()["stored"] == 3
    assert [stored[3:] for stored in tenant.stored()] == [(-0.5, 4), (14, 2), (14.01, 4)]


# The older design's form


def test_flat_form(tenant: Tenant) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    answer = tenant.post({"sensor_id": "s1", "pH": 7.2, "temp": 15.4}, "/api/sensors/data")
    assert answer.status_code == 200
    said = answer.json()
    assert (said["status"], said["message"]) == ("success", "Data received")
    assert (said["sent"], said["stored"]) == (2, 2)
    arrived = datetime.fromisoformat(said["timestamp"])
    assert before <= arrived <= datetime.now(UTC)
    stored = tenant.stored()
    assert [(item[1], item[3]) for item in stored] == [("ph", 7.2), ("temperature", 15.4)]
    assert all(before <= item[2] <= datetime.now(UTC) for item in stored)


def test_flat_list_with_times_and_units(tenant: Tenant) -> None:
    body = [
        {"sensor_id": "s1", "ts": at(0), "pH": 7.25, "temp": 52.7, "units": {"temp": "°F"}},
        {"sensor_id": "s1", "timestamp": EPOCH + 60, "pH": 7.5},
        {"sensor_id": "s2", "time": at(0), "pH": 6.5},
        {"sensor_id": "nobody", "pH": 6.5},
    ]
    answer = tenant.post(body, "/api/sensors/data")
    assert (answer.status_code, answer.json()["stored"], answer.json()["rejected"]) == (200, 4, 1)
    stored = tenant.stored()
    assert stored[2][3] == pytest.approx(11.5)
    assert [item[:3] for item in stored] == [item[:3] for item in STORED]


def test_flat_form_that_stores_nothing_is_no_success(tenant: Tenant) -> None:
    answer = tenant.post({"sensor_id": "s1", "pH": "high"}, "/api/sensors/data")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/nothing-stored"
    assert 'status":"success' not in answer.text
