"""A coordinator with 1, 2 and 4 workers, both roads, against one server of the same edition.

Both databases run side by side on the machine, whose cores all processes share: workers add no cores,
so it is not the time that tells what spreading costs, but the processor time of all that takes part. A
stretch is not over before newest values and events have settled, so that nothing of what readings cost is
left out; it begins warm, since emptying makes every connection's plans void. What a process takes while
nothing is asked of it is no cost of readings: it is measured before, and taken off for as long as a
stretch lasts, from all of them alike. The database's own policies pause: one that falls into a stretch
costs more than all else, and the more shards, the more often one does; what they cost a reading is
measured by itself (pushdown.py, upkeep). Needs a server that offers Citus (HEADWATER_PG_BINDIR).
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.client import LoadError, Outcome, run
from bench.generate import FORMATS, Readings, batches
from bench.load import check_answers, requests_of, warm_up
from bench.options import Options
from bench.pushdown import compare
from bench.report import Goal, Report, begin, judge, median, rounded, versions
from bench.server import Server
from bench.world import World, world

WORKERS = (1, 2, 4)
SIZES = {10_000: 800_000, 1_000: 400_000}
"""Readings a batch, and readings a second that a stretch is planned with."""
CLIENTS = 8
FORMAT = "columnar"
SENSORS = 1_000
SETTLE_SECONDS = 1.5
REST_SECONDS = 10.0
WARMING = 0.3
"""Share of a stretch's batches that are sent before: in emptied tables every connection plans anew."""
QUERY_WORKERS = 2
MILLION = 1e6


@dataclass
class Stretch:
    """One measured stretch; processor seconds and bytes a million readings."""

    rate: float
    """Readings a second."""
    cpu: dict[str, float]
    wal: float

    @property
    def total(self) -> float:
        """Processor seconds of database and API a million readings."""
        return sum(self.cpu.values())


@dataclass
class Profile:
    """A way of readings into a database."""

    name: str
    world: World
    server: Server
    rest: dict[str, float]
    """Cores that each group of processes takes at rest."""
    found: list[Stretch] = field(default_factory=list)

    def cpu(self) -> dict[str, float]:
        """Processor seconds so far by group of processes."""
        return self.world.cpu_by_node() | {"api": self.server.cpu_seconds()}

    def measure(self, requests: list[bytes], sizes: list[int]) -> None:
        """One stretch on an emptied and primed table."""
        begin = int(WARMING * len(requests))
        self._send(requests[:begin], sum(sizes[:begin]))
        readings = sum(sizes[begin:])
        wal, before, began = self.world.wal_bytes(), self.cpu(), time.monotonic()
        outcome = self._send(requests[begin:], readings)
        after, seconds = self.cpu(), time.monotonic() - began
        scale = MILLION / readings
        self.found.append(
            Stretch(
                readings / outcome.seconds,
                {
                    part: (after[part] - before[part] - self.rest[part] * seconds) * scale
                    for part in before
                },
                (self.world.wal_bytes() - wal) * scale,
            )
        )

    def _send(self, requests: list[bytes], readings: int) -> Outcome:
        """Send and wait until newest values and events have settled."""
        outcome = run(self.server.port, requests, connections=CLIENTS)
        time.sleep(SETTLE_SECONDS)
        check_answers(outcome, readings)
        return outcome

    def summary(self) -> dict[str, Any]:
        """Medians of all stretches."""
        parts = self.found[0].cpu
        return {
            "readings_per_second": rounded(median([s.rate for s in self.found])),
            "cpu_seconds_per_million": {
                part: rounded(median([s.cpu[part] for s in self.found]), 3) for part in parts
            },
            "cpu_seconds_per_million_total": rounded(median([s.total for s in self.found])),
            "wal_bytes_per_reading": rounded(median([s.wal / MILLION for s in self.found])),
        }


def measure(options: Options) -> Report:
    """Every number of workers, each beside a single server of its own."""
    report = begin("distributed")
    for workers in WORKERS:
        sizes = [size for size in SIZES if options.wants(f"ingest/{workers}/{size}")]
        is_asked = workers == QUERY_WORKERS and options.wants("query")
        if not sizes and not is_asked:
            continue
        with contextlib.ExitStack() as stack:
            single, spread = (
                stack.enter_context(world(sensors=SENSORS, workers=number))
                for number in (None, workers)
            )
            report.versions = versions(spread.versions())
            report.settings = spread.settings() | {"clients": CLIENTS, "format": FORMAT}
            for w in (single, spread):
                w.set_rules("tenant")
            if sizes:
                with single.without_policies(), spread.without_policies():
                    report.results += ingest(single, spread, workers, sizes, options)
            if is_asked:
                report.results += compare(single, spread, options)
    report.goals = goals(report.results)
    return report


def ingest(
    single: World, spread: World, workers: int, sizes: Sequence[int], options: Options
) -> list[dict[str, Any]]:
    """One number of workers: rest, then batches of each size."""
    ways = [
        Profile("single server", single, single.serve(), {}),
        Profile("direct", spread, spread.serve(INGEST_ROAD="direct"), {}),
        Profile("coordinator", spread, spread.serve(INGEST_ROAD="coordinator"), {}),
    ]
    rests = at_rest(ways)
    options.say(f"at rest: {rests}")
    found: list[dict[str, Any]] = []
    for size in sizes:
        profiles = [
            Profile(way.name, way.world, way.server, rest)
            for way, rest in zip(ways, rests, strict=True)
        ]
        made = batches(
            seed=options.seed,
            sensors=SENSORS,
            batch=size,
            count=options.count(SIZES[size] / (1 - WARMING), least=size * 3 * CLIENTS),
            end=int(time.time()) - 5,
        )
        interleave(profiles, made, options, f"ingest/{workers}/{size}")
        found += [
            {"workers": 0 if p.world is single else workers, "road": p.name, "batch": size}
            | p.summary()
            | ratios(p, profiles[0])
            | {
                "beside": workers,
                "rest_cpu": {part: rounded(cores, 3) for part, cores in p.rest.items()},
            }
            for p in profiles
        ]
    for w in (single, spread):
        w.stop()
    return found


def interleave(
    profiles: Sequence[Profile], made: list[Readings], options: Options, what: str
) -> None:
    """Measure each in turn, the single server before and after each; all must hold the same."""
    sizes = list(map(len, made))
    requests = [requests_of(FORMATS[FORMAT], made, p.world.keys["integration"]) for p in profiles]
    for profile, some in zip(profiles, requests, strict=True):
        warm_up(profile.world, profile.server, some, CLIENTS)
    digest: tuple[int, int] | None = None
    single = (profiles[0], requests[0])
    others = list(zip(profiles[1:], requests[1:], strict=True))
    for profile, some in [pair for _ in range(options.repeats) for pair in (single, *others)] + [
        single
    ]:
        profile.world.empty()
        profile.world.prime(made)
        profile.measure(some, sizes)
        held = profile.world.digest()
        digest = digest or held
        if held != digest or held[0] != sum(sizes):
            raise LoadError(f"{what}, {profile.name}: {held}, expected {sum(sizes)} {digest}")
        last = profile.found[-1]
        options.say(
            f"{what}, {profile.name}: {last.rate:,.0f}/s, {last.total:.3g} s a million, "
            + ", ".join(f"{part} {seconds:.3g}" for part, seconds in last.cpu.items())
        )


def ratios(profile: Profile, single: Profile) -> dict[str, float]:
    """The processor time against the single server's before and after, and who took it."""
    if profile is single:
        return {}
    limits = single.found
    against = [
        stretch.total / ((before.total + after.total) / 2)
        for stretch, before, after in zip(profile.found, limits, limits[1:], strict=False)
    ]
    share = [stretch.cpu["postgres"] / stretch.total for stretch in profile.found]
    return {
        "cpu_to_single": rounded(median(against)),
        "cpu_to_single_lowest": rounded(min(against)),
        "cpu_to_single_highest": rounded(max(against)),
        "coordinator_share": rounded(median(share)),
    }


def at_rest(profiles: Sequence[Profile]) -> list[dict[str, float]]:
    """Cores that each group of processes takes while nothing is asked of it."""
    before = [profile.cpu() for profile in profiles]
    time.sleep(REST_SECONDS)
    return [
        {part: (now - then[part]) / REST_SECONDS for part, now in profile.cpu().items()}
        for profile, then in zip(profiles, before, strict=True)
    ]


def goals(results: list[dict[str, Any]]) -> list[Goal]:
    """What the direct road was promised to cost, and which shards a question touches."""
    found = []
    for result in results:
        if result.get("road") == "direct":
            name = f"{result['workers']} workers, direct road, {result['batch']:,} a batch"
            found += [
                judge(f"{name}, coordinator's share", result["coordinator_share"], "<= 0.03"),
                judge(f"{name}, CPU to one server's", result["cpu_to_single"], "<= 1.25"),
            ]
        if result.get("question") == "one sensor by hour":
            found.append(judge("one sensor's month by hour, shards asked", result["tasks"], "<= 1"))
        if result.get("question") == "all sensors by hour":
            name = "all sensors' month by hour, rows fetched from a shard to rows answered"
            found.append(judge(name, result["fetched_to_answered"], "<= 1"))
    return found
