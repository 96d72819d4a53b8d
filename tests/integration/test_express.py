"""The short road past the framework: what a client sees is what the long road says, to the byte."""

import gzip
import json
import re
import socket
import time
from collections.abc import Callable

import httpx
import pytest
from fix_server import Api, Tenant, row

USUAL, UNUSUAL = "127.0.0.1", "a!b"
"""The framework takes both as a host; the second one is none that the short road takes."""
VOLATILE = re.compile(rb'"timestamp":"[^"]*"|;r=\d+')
NOT_OURS = (b"date", b"connection")
"""What the server adds; it closes where it has answered before the body came."""
LINES, FLAT = "/api/v2/write", "/api/sensors/data"

Ask = Callable[[Tenant, str], httpx.Response]


def reading(*, age_us: int = 0, metric: str = "ph") -> bytes:
    """A reading of its own, so that nothing is stored twice."""
    return json.dumps(row(7, time.time_ns() // 1000 - age_us, metric=metric)).encode()


def post(
    body: Callable[[], bytes],
    path: str = "/api/v1/readings?precision=us",
    **headers: str,
) -> Ask:
    def ask(tenant: Tenant, host: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return tenant.post(body(), path, headers={"Host": host} | names)

    return ask


def nobody(tenant: Tenant, host: str) -> httpx.Response:
    return tenant.api.client.post("/api/v1/readings", content=b"[]", headers={"Host": host})


def scientist(tenant: Tenant, host: str) -> httpx.Response:
    headers = tenant.headers("scientist") | {"Host": host}
    return tenant.api.client.post("/api/v1/readings", content=reading(), headers=headers)


CASES: dict[str, tuple[int, Ask]] = {
    "stored": (200, post(reading)),
    "gzip": (200, post(lambda: gzip.compress(reading()), Content_Encoding="gzip")),
    "minimal": (200, post(reading, Prefer="return=minimal")),
    "late": (200, post(lambda: reading(age_us=7_200_000_000))),
    "rejected": (422, post(lambda: reading(metric="nope"))),
    "a list of one good and one bad": (
        200,
        post(lambda: b"[%b,%b]" % (reading(), reading(metric="nope"))),
    ),
    "malformed": (400, post(lambda: b"{")),
    "empty": (400, post(lambda: b"[]")),
    "another precision": (400, post(reading, "/api/v1/readings?precision=h")),
    "an image": (415, post(reading, Content_Type="image/png")),
    "brotli": (415, post(reading, Content_Encoding="br")),
    "an empty idempotency key": (400, post(reading, Idempotency_Key="")),
    "no key": (401, nobody),
    "a role that may not": (403, scientist),
    "a line": (204, post(lambda: b"water,sensor=s1 ph=7", LINES)),
    "a line without a sensor": (400, post(lambda: b"water ph=7", LINES)),
    "no line": (400, post(lambda: b"", LINES)),
    "flat": (200, post(lambda: b'{"sensor_id":"s1","pH":7.2}', FLAT)),
    "no flat object": (422, post(lambda: b"[1]", FLAT)),
}


@pytest.mark.parametrize("name", CASES)
def test_both_roads_answer_the_same(tenant: Tenant, name: str) -> None:
    status, ask = CASES[name]
    seen = []
    for host in (USUAL, UNUSUAL):
        answer = ask(tenant, host)
        headers = [(key, VOLATILE.sub(b"", value)) for key, value in answer.headers.raw]
        plain = [(key, value) for key, value in headers if key.lower() not in NOT_OURS]
        seen.append((answer.status_code, plain, VOLATILE.sub(b"", answer.content)))
    assert seen[0] == seen[1]
    assert seen[0][0] == status


def test_a_path_to_be_tidied_takes_the_long_road(tenant: Tenant) -> None:
    for path in ("/api/v1/readings/", "/api//v1/readings"):
        assert tenant.post([row(7)], path).status_code == 200
    assert tenant.post([row(7)], headers={"Host": "a b"}).status_code == 400


def test_both_roads_are_counted(tenant: Tenant, api: Api) -> None:
    def count() -> float:
        text = api.client.get("/metrics").text
        name = 'headwater_http_requests_total{method="POST",route="/api/v1/readings",status="401"} '
        return sum(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))

    before = count()
    nobody(tenant, USUAL)
    nobody(tenant, UNUSUAL)
    assert count() == before + 2


def test_a_body_that_ends_too_early_is_the_clients_fault(tenant: Tenant, api: Api) -> None:
    head = f"POST /api/v1/readings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.key()}\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as line:
        line.sendall(f"{head}Content-Length: 100\r\n\r\n[".encode())
        line.shutdown(socket.SHUT_WR)
        got = line.recv(65536)
    assert got.startswith(b"HTTP/1.1 400 ") and b"/problems/malformed-body" in got
    assert "unexpected_error" not in api.log.read_text()
