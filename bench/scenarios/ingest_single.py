"""One reading a POST, acknowledged after commit, against a server that does everything but write.

Both servers run the product's code; the limit's writer throws its readings away (bench/noop.py). The
same client loads both in turn.
"""

import time

from bench.generate import SINGLE, batches
from bench.load import Stretch, Verifier, http_stretch, requests_of, warm_up
from bench.options import Options
from bench.report import Report, begin, judge, median, percentile, rounded, versions
from bench.server import Server
from bench.world import World, world

CONNECTIONS = (64, 256, 1_024)
RATE = 15_000


def measure(options: Options) -> Report:
    """Every number of connections."""
    report = begin("ingest-single")
    with world() as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"rules": w.set_rules("tenant"), "sensors": 1_000}
        server, noop = w.serve(), w.serve_noop()
        for connections in CONNECTIONS:
            if options.wants(str(connections)):
                report.results.append(cell(w, server, noop, connections, options))
    for found in report.results:
        if found["connections"] == 256:
            report.goals = [
                judge("256 connections, ratio to no-op", found["ratio"], ">= 0.9"),
                judge("256 connections, p99 to no-op's p99", found["p99_ratio"], "<= 2"),
            ]
    return report


def cell(
    w: World, server: Server, noop: Server, connections: int, options: Options
) -> dict[str, object]:
    """One number of connections."""
    made = batches(
        seed=options.seed,
        sensors=len(w.sensor_ids),
        batch=1,
        count=options.count(RATE, least=2 * connections),
        end=int(time.time()) - 5,
    )
    requests = requests_of(SINGLE, made, w.keys["device"])
    verifier = Verifier(w, len(made))

    def stretch(target: Server) -> Stretch:
        w.empty()
        w.prime(made)
        return http_stretch(w, target, requests, connections=connections, readings=len(made))

    for target in (server, noop):
        warm_up(w, target, requests, connections)
    limits, stretches = [stretch(noop)], []
    for _ in range(options.repeats):
        stretches.append(stretch(server))
        verifier.check(f"{connections} connections")
        limits.append(stretch(noop))
    rates = [
        s.rate / ((a.rate + b.rate) / 2)
        for s, a, b in zip(stretches, limits, limits[1:], strict=False)
    ]
    p50, p99 = ([percentile(s.latencies, share) for s in stretches] for share in (0.5, 0.99))
    limit_p99 = [percentile(s.latencies, 0.99) for s in limits]
    found: dict[str, object] = {
        "connections": connections,
        "ratio": rounded(median(rates)),
        "ratio_lowest": rounded(min(rates)),
        "ratio_highest": rounded(max(rates)),
        "requests_per_second": rounded(median([s.rate for s in stretches])),
        "limit_requests_per_second": rounded(median([s.rate for s in limits])),
        "p50_ms": rounded(median(p50) * 1e3),
        "p99_ms": rounded(median(p99) * 1e3),
        "limit_p99_ms": rounded(median(limit_p99) * 1e3),
        "p99_ratio": rounded(median(p99) / median(limit_p99)),
        "cpu_us_per_reading": {
            part: rounded(median([s.cpu[part] / s.readings for s in stretches]) * 1e6, 3)
            for part in stretches[0].cpu
        },
        "limit_cpu_us_per_reading": {
            part: rounded(median([s.cpu[part] / s.readings for s in limits]) * 1e6, 3)
            for part in limits[0].cpu
        },
        "readings": len(made),
        "repeats": len(stretches),
    }
    options.say(f"{connections} connections: {found}")
    return found
