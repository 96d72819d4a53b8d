"""Limits for every reading at growing numbers of rules, against the same ingest without any rule.

Ten thousand sensors of five metrics; 10 rules are the tenant's, 1,000 are sites', 100,000 are sensors'
own. Nothing else differs between the two; about one reading in a thousand violates.
"""

import time

from bench.generate import FORMATS, batches
from bench.load import Stretch, Verifier, http_stretch, requests_of, summary
from bench.options import Options
from bench.report import Report, begin, judge, versions
from bench.server import Server
from bench.world import World, world

SENSORS = 10_000
SCOPES = {10: "tenant", 1_000: "site", 100_000: "sensor"}
BATCH = 10_000
CLIENTS = 4
RATE = 800_000
FORM = FORMATS["columnar"]


def measure(options: Options) -> Report:
    """Every number of rules."""
    report = begin("alert-path")
    with world(sensors=SENSORS) as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {
            "sensors": SENSORS, "batch": BATCH, "clients": CLIENTS, "format": FORM.name,
        }  # fmt: skip
        server = w.serve()
        for rules, scope in SCOPES.items():
            if options.wants(str(rules)):
                found = cell(w, server, scope, options)
                report.results.append({"rules": rules} | found)
                name = f"{rules:,} rules, ratio to none"
                report.goals.append(judge(name, float(str(found["ratio"])), ">= 0.95"))
    return report


def cell(w: World, server: Server, scope: str, options: Options) -> dict[str, object]:
    """One number of rules."""
    made = batches(
        seed=options.seed,
        sensors=SENSORS,
        batch=BATCH,
        count=options.count(RATE, least=BATCH * 2 * CLIENTS),
        end=int(time.time()) - 5,
    )
    requests = requests_of(FORM, made, w.keys["integration"])
    readings = sum(map(len, made))
    verifier = Verifier(w, readings)

    def stretch(rules: str | None) -> Stretch:
        w.set_rules(rules)
        w.empty()
        # the change of rules is learnt outside of the measurement
        http_stretch(w, server, requests, connections=CLIENTS, readings=readings)
        w.empty()
        w.prime(made)
        done = http_stretch(w, server, requests, connections=CLIENTS, readings=readings)
        verifier.check(f"rules of {rules}")
        return done

    limits, stretches = [stretch(None)], []
    for _ in range(options.repeats):
        stretches.append(stretch(scope))
        ((events,),) = w.sql("select count(*) from alert.outbox")
        limits.append(stretch(None))
    ratios = [
        s.rate / ((a.rate + b.rate) / 2)
        for s, a, b in zip(stretches, limits, limits[1:], strict=False)
    ]
    found = summary(stretches, limits, ratios) | {"events": events}
    options.say(f"{scope} rules: {found}")
    return found
