"""From a violating reading's POST to the subscriber's WebSocket, at shares of the highest ingest found.

The highest ingest is a closed loop of batches of 1,000. Beside 0, 25, 50 and 75 % of it one sensor is
POSTed a violating and then a clear reading, one after the other; each must bring exactly one event.
Commit to subscriber counts from PostgreSQL's own time of the commit, taken when it begins to be written:
its way to the disk is in it. The probing sensor's clock is right: whoever sends old readings pays for a
look at what all others have sent since.
"""

import socket
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from bench.background import Load, background
from bench.client import HOST, LoadError, answer
from bench.generate import FORMATS, METRICS, SINGLE, batches, request, uid
from bench.live import Subscriber
from bench.load import http_stretch, requests_of, warm_up
from bench.options import Options
from bench.report import Report, begin, judge, percentile, rounded, versions
from bench.server import Server
from bench.world import World, world

LEVELS = (0, 25, 50, 75)
BATCH = 1_000
CLIENTS = 4
RATE = 400_000
PROBES_A_SECOND = 50
FORM = FORMATS["columnar"]
PROBE = 999
"""The probing sensor; the load leaves it out."""


def measure(options: Options) -> Report:
    """The highest ingest, then each level."""
    report = begin("alert-latency")
    report.notes.append("commit to subscriber counts from when the commit begins to be written")
    with world(settings={"track_commit_timestamp": "on"}) as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"rules": w.set_rules("tenant"), "batch": BATCH}
        server = w.serve()
        highest = find_highest(w, server, options)
        report.results.append({"highest_readings_per_second": rounded(highest)})
        for level in LEVELS:
            if options.wants(f"{level}%"):
                found = cell(w, server, level, highest, options)
                report.results.append({"load_percent": level} | found)
                if level == 50:
                    report.goals = [
                        judge("POST to WebSocket at 50 %, p99 ms", found["p99_ms"], "<= 50"),
                        judge(
                            "commit to subscriber at 50 %, p99 ms",
                            found["commit_p99_ms"],
                            "<= 10",
                        ),
                    ]
    return report


def calm(w: World, count: int, options: Options) -> list[bytes]:
    """Requests of batches without a violation, of all sensors but the probing one."""
    made = batches(
        seed=options.seed,
        sensors=len(w.sensor_ids) - 100,
        batch=BATCH,
        count=count,
        end=int(time.time()) - 5,
        violations=0,
    )
    return requests_of(FORM, made, w.keys["integration"])


def find_highest(w: World, server: Server, options: Options) -> float:
    """Readings a second of a closed loop."""
    requests = calm(w, options.count(RATE, least=BATCH * 20), options)
    warm_up(w, server, requests, CLIENTS)
    rates = []
    for _ in range(min(3, options.repeats)):
        w.empty()
        done = http_stretch(
            w, server, requests, connections=CLIENTS, readings=len(requests) * BATCH
        )
        rates.append(done.rate)
    return max(rates)


def cell(w: World, server: Server, level: int, highest: float, options: Options) -> dict[str, Any]:
    """One level of load."""
    w.empty()
    rate = highest * level / 100 / BATCH
    count = max(20, options.count(PROBES_A_SECOND * options.repeats))
    # five times as long as the probes should take
    planned = int(rate * BATCH * (5 * count / PROBES_A_SECOND + 5))
    requests = calm(w, max(BATCH, planned), options)
    with background(server.port, Load(requests, CLIENTS, rate)) as refused:
        whole, after_commit = probe(w, server, count)
    found = {
        "load_readings_per_second": rounded(rate * BATCH),
        "probes": len(whole),
        "p50_ms": rounded(percentile(whole, 0.5) * 1e3),
        "p99_ms": rounded(percentile(whole, 0.99) * 1e3),
        "highest_ms": rounded(max(whole) * 1e3),
        "requests_asked_to_come_again": refused.count,
        "commit_p50_ms": rounded(percentile(after_commit, 0.5) * 1e3),
        "commit_p99_ms": rounded(percentile(after_commit, 0.99) * 1e3),
    }
    options.say(f"{level} %: {found}")
    return found


def probe(w: World, server: Server, count: int) -> tuple[list[float], list[float]]:
    """Seconds from POST to event, and from commit to event."""
    subscriber = Subscriber(server.port, w.keys["operator"])
    line = socket.create_connection((HOST, server.port), timeout=30)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    whole: list[float] = []
    arrived: dict[int, float] = {}
    try:
        for number in range(count):
            value = METRICS[0].high + 1 if number % 2 == 0 else METRICS[0].middle
            text = one(datetime.now(UTC), value, w.keys["device"])
            next_at = time.monotonic() + 1 / PROBES_A_SECOND
            started = time.time()
            line.sendall(text)
            while True:
                event = subscriber.next()
                if event.get("alert", {}).get("sensor") == uid(PROBE):
                    break
            now = time.time()
            whole.append(now - started)
            arrived[event["id"]] = now
            _read_answer(line)
            time.sleep(max(0.0, next_at - time.monotonic()))
    finally:
        subscriber.close()
        line.close()
    written = dict(
        w.sql("select o.outbox_id, pg_xact_commit_timestamp(o.xmin) from alert.outbox as o")
    )
    return whole, [at - _epoch(written[number]) for number, at in arrived.items()]


def one(at: datetime, value: float, key: str) -> bytes:
    """The probing sensor's POST."""
    body = {
        "sensor": uid(PROBE),
        "ts": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "metric": METRICS[0].code,
        "value": value,
    }
    return request(SINGLE, msgspec.json.encode(body), key)


def _epoch(moment: datetime) -> float:
    return moment.astimezone(UTC).timestamp()


def _read_answer(line: socket.socket) -> None:
    got = b""
    while (found := answer(got)) is None:
        got += line.recv(1 << 16)
    if found[0] != 200:
        raise LoadError(f"answer {found[0]}: {found[1][:300]!r}")
