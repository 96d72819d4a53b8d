"""Line protocol, Arrow, Parquet and CSV over HTTP: stored the same, refused in each one's own words.

Telegraf itself is not run here; its requests are replayed in the shape that its outputs.influxdb_v2 sends
(plugins/outputs/influxdb_v2/http.go): path, query, headers, gzip and nanosecond times.
"""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from fix_server import Api, Tenant

T0 = datetime(2024, 5, 1, 12, tzinfo=UTC)
EPOCH = int(T0.timestamp())
NS = EPOCH * 10**9
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"

Write = Callable[..., httpx.Response]


@pytest.fixture
def write(api: Api, tenant: Tenant) -> Write:
    """Send lines as Telegraf does."""

    def send(lines: str | bytes, *, token: str | None = None, **query: str) -> httpx.Response:
        body = lines.encode() if isinstance(lines, str) else lines
        return api.client.post(
            "/api/v2/write",
            params={"org": "headwater", "bucket": "telegraf"} | query,
            content=gzip.compress(body),
            headers={
                "Authorization": f"Token {token or tenant.key()}",
                "Content-Encoding": "gzip",
                "Content-Type": "text/plain; charset=utf-8",
                "User-Agent": "Telegraf/1.36.3 Go/1.24.5",
            },
        )

    return send


def error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Influx' error object."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    said: dict[str, Any] = answer.json()
    assert said["code"] == code and said["message"] and set(said) <= {"code", "message", "line"}
    return said


def test_what_telegraf_sends_is_stored(tenant: Tenant, write: Write) -> None:
    tenant.make_sensor("gw 1")
    answer = write(
        f"water,host=gw\\ 1,sensor=s1 ph=7.25,temperature=11.5 {NS}\n"
        f"ph,host=gw\\ 1 value=7i {NS + 60 * 10**9}\n"
    )
    assert answer.status_code == 204 and answer.content == b""
    assert tenant.stored() == [
        ("gw 1", "ph", T0 + timedelta(seconds=60), 7.0, 2),
        ("s1", "ph", T0, 7.25, 2),
        ("s1", "temperature", T0, 11.5, 2),
    ]


def test_a_batch_sent_again_is_accepted_again(tenant: Tenant, write: Write) -> None:
    lines = "".join(f"w,sensor=s1 ph=7.{i} {NS + i * 10**9}\n" for i in range(500))
    assert [write(lines).status_code for _ in range(2)] == [204, 204]
    assert len(tenant.stored()) == 500


def test_precision_unit_and_bearer(api: Api, tenant: Tenant) -> None:
    answer = api.client.post(
        f"/api/v2/write?org=o&bucket=b&precision=s&token={tenant.key()}",
        content=f"w,sensor=s1,unit=degF temperature=50 {EPOCH}",
        headers=tenant.headers(),
    )
    assert answer.status_code == 204, answer.text
    ((_, _, ts, value, _),) = tenant.stored()
    assert (ts, round(value, 9)) == (T0, 10.0)


def test_a_partial_write_stores_the_rest_and_names_the_lines(tenant: Tenant, write: Write) -> None:
    answer = write(
        f"w,sensor=s1 ph=7 {NS}\n"
        f"broken\n"
        f"w,sensor=nobody ph=7 {NS}\n"
        f"w,sensor=s1 nonsense=1,up=true,temperature=11 {NS}\n"
    )
    said = error(answer, 400, "invalid")
    assert said["line"] == 2
    first, *lines = said["message"].split("\n")
    assert first == "partial write: 2 stored, 4 refused"
    assert [line[:7] for line in lines] == ["line 2:", "line 3:", "line 4:", "line 4:"]
    assert "'nobody' is not known" in lines[1]
    assert "boolean" in said["message"] and "'nonsense' is not known" in said["message"]
    assert [metric for _, metric, *_ in tenant.stored()] == ["ph", "temperature"]


def test_another_value_for_a_stored_time_is_said(tenant: Tenant, write: Write) -> None:
    assert write(f"w,sensor=s1 ph=7 {NS}").status_code == 204
    said = error(write(f"w,sensor=s1 ph=8 {NS}"), 400, "invalid")
    assert said["line"] == 1 and "another value is stored" in said["message"]
    assert tenant.stored()[0][3] == 7.0


def test_times_outside_the_window_are_unprocessable(tenant: Tenant, write: Write) -> None:
    answer = write(f"w,sensor=s1 ph=7 {NS}\nw,sensor=s1 ph=7 4000000000000000000\n")
    said = error(answer, 422, "unprocessable entity")
    assert said["line"] == 2 and len(tenant.stored()) == 1


def test_an_error_names_a_hundred_lines_at_most(write: Write) -> None:
    said = error(write("x\n" * 150), 400, "invalid")
    assert said["message"].count("\nline ") == 100 and said["message"].endswith("and 50 more")


def test_influx_errors(api: Api, tenant: Tenant, write: Write) -> None:
    line = f"w,sensor=s1 ph=7 {NS}"
    error(write(line, token="hw_00000000_wrong"), 401, "unauthorized")
    error(api.client.post("/api/v2/write", content=line), 401, "unauthorized")
    error(write(line, token=tenant.key("scientist")), 403, "forbidden")
    error(write(line, precision="h"), 400, "invalid")
    error(write(""), 400, "invalid")
    error(write("w,sensor=s1 a=1,b=2\n" * 25_001), 413, "request too large")
    error(write(b"#" * 20_000_000), 413, "request too large")
    headers = tenant.headers() | {"Content-Encoding": "gzip"}
    error(api.client.post("/api/v2/write", content=b"x", headers=headers), 400, "invalid")
    headers = tenant.headers() | {"Content-Encoding": "br"}
    error(
        api.client.post("/api/v2/write", content=b"x", headers=headers),
        415,
        "unsupported media type",
    )
    assert tenant.stored() == []


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"\0", b"{}", b"\\", b'"', b",", b"=", b" ", b"w,sensor=\0 ph=1"],
    ids=repr,
)
def test_no_line_ends_in_a_500(write: Write, body: bytes) -> None:
    for times in (1, 3_000):
        assert write((body + b"\n") * times).status_code == 400


def table() -> pa.Table:
    return pa.table(
        {
            "sensor": ["s1", "s1", "s1"],
            "ts": pa.array([EPOCH, EPOCH + 60, EPOCH], pa.timestamp("s", "UTC")),
            "metric": ["ph", "ph", "temperature"],
            "value": [7.25, 7.5, 50.0],
            "unit": [None, None, "degF"],
        }
    )


def wide() -> pa.Table:
    return pa.table(
        {
            "sensor": ["s1", "s1"],
            "ts": pa.array([EPOCH, EPOCH + 60], pa.timestamp("s", "UTC")),
            "ph": [7.25, 7.5],
            "temperature [degF]": [50.0, None],
        }
    )


def stream(whole: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return bytes(sink.getvalue())


def parquet(whole: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(whole, sink)
    return bytes(sink.getvalue())


def csv(whole: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    epoch = whole["ts"].cast(pa.int64())
    pa.csv.write_csv(whole.set_column(1, "ts", epoch), sink)
    return bytes(sink.getvalue())


FORMATS = {ARROW: stream, PARQUET: parquet, "application/x-parquet": parquet, "text/csv": csv}
formats = pytest.mark.parametrize(("media_type", "pack"), FORMATS.items(), ids=FORMATS)


@formats
@pytest.mark.parametrize("whole", [table(), wide()], ids=["long", "wide"])
def test_tables_are_stored(tenant: Tenant, media_type: str, pack: Any, whole: pa.Table) -> None:
    answer = tenant.post(pack(whole), headers={"Content-Type": media_type})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["sent"], answer.json()["stored"]) == (3, 3)
    stored = [(metric, ts, round(value, 9)) for _, metric, ts, value, _ in tenant.stored()]
    assert stored == [
        ("ph", T0, 7.25),
        ("ph", T0 + timedelta(seconds=60), 7.5),
        ("temperature", T0, 10.0),
    ]


@formats
def test_a_gzipped_table_and_its_bad_rows(tenant: Tenant, media_type: str, pack: Any) -> None:
    bad = pa.concat_tables(
        [
            table().set_column(0, "sensor", pa.array(["nobody", "s1", None])),
            table().set_column(3, "value", pa.array([None, 9.0, float("inf")])),
        ]
    )
    answer = tenant.post(
        gzip.compress(pack(bad)), headers={"Content-Type": media_type, "Content-Encoding": "gzip"}
    )
    assert answer.status_code == 200, answer.text
    said = [
        (verdict["index"], verdict["verdict"], verdict.get("field"))
        for verdict in answer.json()["verdicts"]
        if verdict["verdict"] != "late"
    ]
    assert said == [
        (0, "rejected", "sensor"),
        (2, "rejected", "sensor"),
        (3, "rejected", "value"),
        (4, "conflict", "value"),
        (5, "rejected", "value"),
    ]
    assert [row[3] for row in tenant.stored()] == [7.5]


@formats
@pytest.mark.parametrize("body", [b"", b"\0" * 100, b"PAR1" * 20, b"{}", b"\xff" * 64], ids=repr)
def test_what_is_no_table_is_malformed(
    tenant: Tenant, media_type: str, pack: Any, body: bytes
) -> None:
    for wrong in (body, pack(table())[:-20] + body):
        answer = tenant.post(wrong, headers={"Content-Type": media_type})
        assert answer.status_code in (200, 400, 422), answer.text
        if wrong is body:
            assert answer.json()["type"] == "/problems/malformed-body"


@formats
def test_a_table_of_too_many_rows(tenant: Tenant, media_type: str, pack: Any) -> None:
    many = pa.concat_tables([table()] * 17_000)
    answer = tenant.post(pack(many), headers={"Content-Type": media_type})
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/too-many-readings"
