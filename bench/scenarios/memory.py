"""Resident memory of an API worker under each load, and over ten minutes of a mixed one.

Flat: the median of the last fifth of the samples against that of the second fifth (the first is warming
up). `--seconds` scales the long stretch: 300 x seconds, ten minutes by default.
"""

import time

from bench.background import Load, background
from bench.generate import FORMATS, SINGLE, Format, batches
from bench.live import audience
from bench.load import requests_of
from bench.options import Options
from bench.report import Report, begin, judge, median, rounded, versions
from bench.server import Server
from bench.world import World, world

MB = 1_000_000
# name -> format, batch, connections, requests a second
Kind = tuple[Format, int, int, float]
KINDS: dict[str, Kind] = {
    "rows of 10,000": (FORMATS["rows"], 10_000, 8, 40),
    "columns of 10,000": (FORMATS["columnar"], 10_000, 8, 40),
    "rows of 100": (FORMATS["rows"], 100, 8, 1_000),
    "single, 1,024 connections": (SINGLE, 1, 1_024, 5_000),
}
LONG = 300
SUBSCRIBERS = 50
PART_SECONDS = 20.0
SENSORS = 1_000


def measure(options: Options) -> Report:
    """Each load with a fresh server, then the long mixed one."""
    report = begin("memory")
    with world(sensors=SENSORS * len(KINDS)) as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"rules": w.set_rules("tenant")}
        for name, kind in KINDS.items():
            if options.wants(name):
                server = w.serve()
                found = stretch(w, server, [kind], 5 * options.seconds, options)
                report.results.append({"load": name} | found)
                report.goals.append(judge(f"{name}, MB a worker", found["highest_mb"], "< 300"))
                w.stop()
        if options.wants("mixed"):
            mixed = [
                (form, batch, connections, rate / 8)
                for form, batch, connections, rate in KINDS.values()
            ]
            found = stretch(w, w.serve(), mixed, LONG * options.seconds, options)
            report.results.append({"load": "mixed"} | found)
            report.goals += [
                judge("mixed, MB a worker", found["highest_mb"], "< 300"),
                judge("mixed, last fifth to second fifth", found["growth"], "<= 1.05"),
            ]
    return report


def stretch(
    w: World,
    server: Server,
    kinds: list[Kind],
    seconds: float,
    options: Options,
) -> dict[str, float]:
    """Highest resident memory and growth while the loads run."""
    samples: list[float] = []
    number = 0
    with audience(server.port, w.keys["operator"], SUBSCRIBERS):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            w.empty()
            part = min(left, PART_SECONDS)
            prepared = [
                Load(requests(w, kind, part, place, options.seed + number), kind[2], kind[3])
                for place, kind in enumerate(kinds)
            ]
            with background(server.port, *prepared):
                until = time.monotonic() + part
                while time.monotonic() < until:
                    samples.append(server.rss_bytes() / MB)
                    time.sleep(min(0.5, part / 10))
            number += 1
    fifth = max(1, len(samples) // 5)
    found = {
        "highest_mb": rounded(max(samples)),
        "growth": rounded(median(samples[-fifth:]) / median(samples[fifth : 2 * fifth] or samples)),
        "seconds": rounded(seconds),
    }
    options.say(f"{[kind[0].name for kind in kinds]}: {found}")
    return found


def requests(w: World, kind: Kind, seconds: float, place: int, seed: int) -> list[bytes]:
    """More than a load needs for so long, of sensors that no other load has."""
    form, batch, _, rate = kind
    made = batches(
        seed=seed,
        sensors=SENSORS,
        first=place * SENSORS,
        batch=batch,
        count=int(batch * rate * (seconds * 2 + 15)),
        end=int(time.time()) - 5,
    )
    return requests_of(form, made, w.keys["device" if form is SINGLE else "integration"])
