"""Nothing a client sends ends in a 500, takes the process down or goes in unnoticed."""

import gzip
import json
import random
from typing import Any

import httpx
import pytest
import zstandard
from fix_server import Api, Tenant, now, row

NDJSON = "application/x-ndjson"


def problem(answer: httpx.Response, slug: str, status: int) -> dict[str, Any]:
    """The answer's problem, which must be this one and say how to do better."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert (said["type"], said["status"]) == (f"/problems/{slug}", status)
    assert said["instance"] in ("/api/v1/readings", "/api/sensors/data")
    assert 10 < len(said["detail"]) < 600
    return said


def json_row(**raw: str) -> bytes:
    """A row whose values are JSON as it stands."""
    parts = {"sensor": '"s1"', "ts": f'"{now()}"', "metric": '"ph"', "value": "7"} | raw
    return ("[{" + ",".join(f'"{name}":{value}' for name, value in parts.items()) + "}]").encode()


GOOD = json.dumps([row(7, "2026-01-01T00:00:00Z")]).encode()

MALFORMED = {
    "nothing": b"",
    "spaces": b"  \n ",
    "truncated": GOOD[:-2],
    "truncated in a text": GOOD[:12],
    "two documents": GOOD + GOOD,
    "a number": b"7",
    "a text": b'"reading"',
    "null": b"null",
    "invalid UTF-8": b'[{"sensor":"\xc3\x28"}]',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "half of a surrogate pair": json_row(sensor='"\\ud800"'),
    "half of a pair in a name": b'{"sensor":"s1","ts":[1],"metrics":{"\\udc00":[]}}',
    "100,000 levels of lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "16 million levels": b"[" * 16_000_000,
    "an integer of 5,000 digits": json_row(value="9" * 5_000),
    "columns of unequal length": b'{"sensor":"s1","ts":[1,2],"metrics":{"ph":[7]}}',
    "columns with a name of a megabyte": b'{"sensor":"s1","ts":[1],"metrics":{"'
    + b"x" * 1_000_000
    + b'":[]}}',
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("path", ["/api/v1/readings", "/api/sensors/data"])
def test_what_is_no_list_of_readings(tenant: Tenant, name: str, path: str) -> None:
    answer = tenant.post(MALFORMED[name], path)
    if path == "/api/v1/readings" or answer.status_code != 422:
        problem(answer, "malformed-body", 400)
    assert tenant.stored() == []


REJECTED = {
    "an empty object": (b"{}", "sensor"),
    "100 levels": (b"[" * 100 + b"]" * 100, None),
    "NaN": (json_row(value="NaN"), "value"),
    "Infinity": (json_row(value="-Infinity"), "value"),
    "1e400": (json_row(value="1e400"), "value"),
    "an integer of 400 digits": (json_row(value="9" * 400), "value"),
    "a value as text": (json_row(value='"7"'), "value"),
    "a value that is true": (json_row(value="true"), "value"),
    "no value": (json_row(value="null"), "value"),
    "a time of 400 digits": (json_row(ts="9" * 400), "ts"),
    "a time that is NaN": (json_row(ts="NaN"), "ts"),
    "a time in milliseconds": (json_row(ts="1767225600000"), "ts"),
    "a time without offset": (json_row(ts='"2026-01-01T00:00:00"'), "ts"),
    "a list of times": (json_row(ts="[1]"), "ts"),
    "a sensor that is a number": (json_row(sensor="5"), "sensor"),
    "an unknown sensor": (json_row(sensor='"nobody"'), "sensor"),
    "a NUL in the uid": (json_row(sensor='"s1\\u0000"'), "sensor"),
    "an empty uid": (json_row(sensor='""'), "sensor"),
    "a uid of a megabyte": (json_row(sensor='"' + "s" * 1_000_000 + '"'), "sensor"),
    "a metric that is a list": (json_row(metric="[]"), "metric"),
    "a NUL in the metric": (json_row(metric='"ph\\u0000"'), "metric"),
    "a unit that is a number": (json_row(unit="5"), "unit"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_reading(tenant: Tenant, name: str) -> None:
    body, field = REJECTED[name]
    said = problem(tenant.post(body), "nothing-stored", 422)
    (verdict,) = said["verdicts"]
    assert (verdict["index"], verdict["verdict"], verdict.get("field")) == (0, "rejected", field)
    assert len(verdict["reason"]) < 200
    assert tenant.stored() == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[]", ""),
        (b'{"readings":[]}', ""),
        (b'{"sensor":"s1","ts":[],"metrics":{}}', ""),
        (b'{"sensor":"s1","ts":[1],"metrics":{"ph":[null]}}', ""),
        (b"\n\n", NDJSON),
        (b"", NDJSON),
    ],
)
def test_an_empty_batch(tenant: Tenant, body: bytes, content_type: str) -> None:
    problem(tenant.post(body, headers={"Content-Type": content_type}), "empty-batch", 400)


def test_of_duplicate_names_the_last_counts(tenant: Tenant) -> None:
    assert tenant.post(json_row(value='6,"value":7')).status_code == 200
    assert [stored[3] for stored in tenant.stored()] == [7]


def test_one_long_text_among_many_times(tenant: Tenant) -> None:
    ts = [now()] + ["2026-11-21T02:00:00Z"] * 9_998 + ["x" * 2_000_000]
    answer = tenant.post({"sensor": "s1", "ts": ts, "metrics": {"ph": [7] + [None] * 9_998 + [7]}})
    assert (answer.status_code, answer.json()["stored"], answer.json()["rejected"]) == (200, 1, 1)


# Encodings and types


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/xml", "json", "applicati\u00f6n/json"]
)
def test_unknown_content_type(tenant: Tenant, content_type: str) -> None:
    answer = tenant.post(GOOD, headers={"Content-Type": content_type.encode("latin-1")})  # type: ignore[dict-item]
    assert "application/x-ndjson" in problem(answer, "unsupported-media-type", 415)["detail"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x" * 500])
def test_unknown_content_encoding(tenant: Tenant, encoding: str) -> None:
    answer = tenant.post(GOOD, headers={"Content-Encoding": encoding})
    assert "send gzip, zstd or none" in problem(answer, "unsupported-media-type", 415)["detail"]


ZSTD = zstandard.ZstdCompressor(write_content_size=False)
LINES = b"".join(json.dumps(row(i)).encode() + b"\n" for i in range(5_000))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("fault", ["plain", "truncated", "damaged", "tail"])
def test_invalid_compression(tenant: Tenant, encoding: str, fault: str) -> None:
    whole = gzip.compress(LINES) if encoding == "gzip" else ZSTD.compress(LINES)
    body = {
        "plain": LINES,
        "truncated": whole[: len(whole) // 2],
        "damaged": whole[:8] + b"\xff" * 8 + whole[16:],
        "tail": whole + b"more",
    }[fault]
    answer = tenant.post(body, headers={"Content-Encoding": encoding, "Content-Type": NDJSON})
    assert "Content-Encoding" in problem(answer, "malformed-body", 400)["detail"]
    assert tenant.stored() == []


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_goes_off_nowhere(tenant: Tenant, encoding: str) -> None:
    content = b"[" + b" " * 300_000_000
    bomb = gzip.compress(content, 1) if encoding == "gzip" else ZSTD.compress(content)
    began = tenant.api.cpu_seconds()
    answer = tenant.post(bomb, headers={"Content-Encoding": encoding})
    assert problem(answer, "body-too-large", 413)["limit_bytes"] == 16_777_216
    assert tenant.api.cpu_seconds() - began < 2


# Limits


def test_who_sends_too_much_learns_that_the_connection_ends(tenant: Tenant) -> None:
    """The rest is not read; a client that went on with the connection would lose its next request."""
    for _ in range(20):
        answer = tenant.post(b"[" + b" " * 20_000_000)
        problem(answer, "body-too-large", 413)
        assert answer.headers["connection"] == "close"
        assert tenant.post(b"[]").status_code == 400


def test_ten_million_readings(tenant: Tenant) -> None:
    many = b"[" + b"7," * 9_999_999 + b"7]"
    columns = b'{"sensor":"s1","ts":' + many + b',"metrics":{"ph":' + many + b"}}"
    problem(tenant.post(columns), "body-too-large", 413)
    packed = tenant.post(gzip.compress(columns, 1), headers={"Content-Encoding": "gzip"})
    problem(packed, "body-too-large", 413)

    def pieces() -> Any:  # without a length to refuse by
        yield b"["
        for _ in range(10_000):
            yield b'{"sensor":"s1"},' * 1_000

    answer = tenant.api.client.post(
        "/api/v1/readings",
        content=pieces(),
        headers={**tenant.headers(), "Content-Type": "application/json"},
    )
    problem(answer, "body-too-large", 413)
    numbers = b"[" + b"7," * 8_000_000 + b"7]"
    said = problem(tenant.post(numbers), "too-many-readings", 413)
    assert said["limit_readings"] == 50_000


def test_one_reading_more_than_the_limit(tenant: Tenant) -> None:
    body = {
        "sensor": "s1",
        "ts": list(range(1_700_000_000, 1_700_025_001)),
        "metrics": {"ph": [7] * 25_001},
    }
    body["metrics"]["temperature"] = body["metrics"]["ph"]  # type: ignore[index]
    problem(tenant.post(body), "too-many-readings", 413)
    body["ts"] = body["ts"][1:]  # type: ignore[index]
    body["metrics"] = {name: [7] * 25_000 for name in ("ph", "temperature")}
    assert tenant.post(body).json()["stored"] == 50_000


@pytest.mark.parametrize(
    "body",
    [
        [row(sensor=f"u{i}") for i in range(50_000)],
        [row(metric=f"u{i}") for i in range(50_000)],
        {"sensor": "s1", "ts": [], "metrics": {str(i): [] for i in range(1_000_000)}},
        [{"sensor": "s1", "ts": [], "metrics": {}}] * 400_000,
    ],
    ids=["sensors", "metrics", "empty columns", "empty sensors"],
)
def test_much_of_what_is_refused_is_refused_quickly(tenant: Tenant, body: Any) -> None:
    content = json.dumps(body).encode()
    began = tenant.api.cpu_seconds()
    assert tenant.post(content).status_code in (413, 422)
    assert tenant.api.cpu_seconds() - began < 2.5


@pytest.mark.parametrize("precision", ["minutes", "", "%ff", "S"])
def test_unknown_precision(tenant: Tenant, precision: str) -> None:
    answer = tenant.post(GOOD, f"/api/v1/readings?precision={precision}")
    assert "none of s, ms, us, ns" in problem(answer, "bad-request", 400)["detail"]


def test_paths_and_methods_that_do_not_exist(tenant: Tenant) -> None:
    for method, path, status in (
        ("POST", "/api/v1/reading", 404),
        ("POST", "/api/v1/%ff%00", 404),
        ("PATCH", "/api/v1/readings", 405),
    ):
        answer = tenant.api.client.request(method, path, headers=tenant.headers(), content=GOOD)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


# Chance


def chance(generator: random.Random, depth: int = 0) -> Any:
    """A document that resembles a body often enough to get somewhere."""
    leaves = [
        None, True, 0, -1, 7.5, 1_795_226_400, 10**30, float("nan"), "", "a\0", "ph", "mg/L", "é",
        now(), "x" * 300,
    ]  # fmt: skip
    names = [
        "sensor",
        "ts",
        "metric",
        "value",
        "unit",
        "metrics",
        "units",
        "series",
        "sensor_id",
        "pH",
    ]
    kind = generator.random()
    if depth > 4 or kind < 0.3:
        return generator.choice(leaves)
    if kind < 0.5:
        return [chance(generator, depth + 1) for _ in range(generator.randrange(4))]
    if kind < 0.8:
        return row(generator.choice([7, 7, 8])) | {
            generator.choice(names): chance(generator, depth + 1)
        }
    return {
        generator.choice(names): chance(generator, depth + 1) for _ in range(generator.randrange(5))
    }


@pytest.mark.parametrize("is_auto_register", [False, True])
def test_random_bodies_are_answered_and_counted(api: Api, is_auto_register: bool) -> None:
    tenant = api.make_tenant(is_auto_register=is_auto_register)
    tenant.make_sensor("s1")
    generator = random.Random(1)
    stored = 0
    statuses = set()
    for number in range(300):
        body = json.dumps(chance(generator)).encode()
        if number % 5 == 0:
            at = generator.randrange(len(body))
            body = body[:at] + generator.randbytes(2) + body[at + 1 :]
        path = generator.choice(["/api/v1/readings", "/api/sensors/data"])
        content_type = generator.choice(["application/json", NDJSON])
        answer = tenant.post(body, path, headers={"Content-Type": content_type})
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 400, 413, 422), (body, answer.text)
        said = answer.json()
        if "sent" in said:
            assert (
                said["sent"]
                == said["stored"] + said["duplicate"] + said["conflict"] + said["rejected"]
            ), body
            stored += said["stored"]
    assert stored == len(tenant.stored()) > 10
    assert statuses >= {200, 400, 422}
    assert "unexpected_error" not in api.log.read_text()
