"""Batches over HTTP with every check on, against binary COPY of the same readings.

On: authentication, deduplication by the unique index, limits for every reading (about one in a thousand
violates), the edition's rollups, newest values. The limit is COPY by two connections into the same
table, one transaction for each batch.
"""

import time

from bench.generate import FORMATS, batches
from bench.load import Stretch, against_copy, http_stretch, requests_of, warm_up
from bench.options import Options
from bench.report import Goal, Report, begin, judge, versions
from bench.server import Server
from bench.world import World, world

# batch size -> readings a second that a stretch is planned with
SIZES = {100: 100_000, 1_000: 400_000, 10_000: 800_000}
CLIENTS = (1, 2, 4, 8)
GOALS = {1_000: ">= 0.75", 10_000: ">= 0.9"}


def measure(options: Options) -> Report:
    """Every size, format and number of clients."""
    report = begin("ingest-batch")
    with world() as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"rules": w.set_rules("tenant"), "sensors": 1_000}
        server = w.serve()
        for size in SIZES:
            for form in FORMATS:
                for clients in CLIENTS:
                    if options.wants(f"{size}/{form}/{clients}"):
                        found = cell(w, server, options, size=size, form=form, clients=clients)
                        report.results.append(
                            {"batch": size, "format": form, "clients": clients} | found
                        )
    report.goals = goals(report.results)
    return report


def cell(
    w: World, server: Server, options: Options, *, size: int, form: str, clients: int
) -> dict[str, object]:
    """One size, format and number of clients."""
    made = batches(
        seed=options.seed,
        sensors=len(w.sensor_ids),
        batch=size,
        count=options.count(SIZES[size], least=size * 2 * clients),
        end=int(time.time()) - 5,
    )
    requests = requests_of(FORMATS[form], made, w.keys["integration"])
    readings = sum(map(len, made))
    warm_up(w, server, requests, clients)

    def stretch() -> Stretch:
        return http_stretch(w, server, requests, connections=clients, readings=readings)

    return against_copy(w, made, stretch, options, f"{size}/{form}/{clients}")


def goals(results: list[dict[str, object]]) -> list[Goal]:
    """A size's goal is for each format, with the number of clients that suits it best."""
    found = []
    for size, goal in GOALS.items():
        for form in FORMATS:
            ratios = [
                float(str(r["ratio"]))
                for r in results
                if r["batch"] == size and r["format"] == form
            ]
            if ratios:
                name = f"{form}, {size:,} readings a batch, ratio to COPY"
                found.append(judge(name, max(ratios), goal))
    return found
