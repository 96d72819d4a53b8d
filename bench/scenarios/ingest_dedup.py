"""Batches of which some collide with stored readings, against plain COPY without any collision.

What is measured is the writer: resolved batches in, verdicts out, two connections, no rules. `overlap`:
one reading in a hundred of a colliding batch is stored already and the rest is new, so nearly all of it
must be written by the slower road. `repeat`: all of it is stored already, as after a lost answer.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from app.ingest.batch import Batch
from app.ingest.road import Road
from app.ingest.verdict import Code
from app.settings import Settings
from bench.client import LoadError
from bench.generate import Readings, batches
from bench.load import Stretch, Verifier, copy, copy_stretch, summary
from bench.options import Options
from bench.report import Report, begin, judge, versions
from bench.world import World, world

GOALS = {0: ">= 0.98", 1: ">= 0.95", 10: ">= 0.8", 50: ">= 0.6"}
KINDS = ("overlap", "repeat")
BATCH = 10_000
RATE = 800_000
CLIENTS = 4
OVERLAP = 100
"""One reading in so many."""


def measure(options: Options) -> Report:
    """Every share of colliding batches, of both kinds."""
    report = begin("ingest-dedup")
    with world() as w:
        report.versions = versions(w.versions())
        report.settings = w.settings() | {"batch": BATCH, "clients": CLIENTS, "rules": 0}
        for share, goal in GOALS.items():
            for kind in KINDS if share else KINDS[:1]:
                if options.wants(f"{share}%/{kind}"):
                    found = cell(w, share, kind, options)
                    report.results.append({"share_percent": share, "kind": kind} | found)
                    name = f"{share} % of batches collide ({kind}), ratio to COPY"
                    report.goals.append(judge(name, float(str(found["ratio"])), goal))
    return report


def colliding(made: Sequence[Readings], share: int) -> list[Readings]:
    """The share of all batches that will collide, spread evenly."""
    count = -(-len(made) * share // 100)
    return [made[int(n * len(made) / count)] for n in range(count)]


def stored_before(batch: Batch, kind: str) -> Batch:
    """What of a colliding batch is in the table already."""
    if kind == "repeat":
        return batch
    return batch.where(np.arange(len(batch)) % OVERLAP == 0)


def cell(w: World, share: int, kind: str, options: Options) -> dict[str, object]:
    """One share and kind."""
    made = batches(
        seed=options.seed,
        sensors=len(w.sensor_ids),
        batch=BATCH,
        count=options.count(RATE, least=BATCH * 10),
        end=int(time.time()) - 5,
    )
    given = [w.batch(readings) for readings in made]
    buffers = [batch.copy_readings() for batch in given]
    before = [stored_before(w.batch(b), kind) for b in colliding(made, share)]
    verifier = Verifier(w, sum(map(len, made)))

    def limit() -> Stretch:
        done = copy_stretch(w, made, buffers)
        verifier.check("COPY")
        return done

    def stretch() -> Stretch:
        w.empty()
        w.prime(made)
        if before:
            copy(w, [batch.copy_readings() for batch in before], connections=1)
        database, own = w.cpu_seconds(), time.process_time()
        seconds = asyncio.run(write(w, given, sum(map(len, before))))
        cpu = {"postgres": w.cpu_seconds() - database, "writer": time.process_time() - own}
        verifier.check(f"{share} % {kind}")
        return Stretch(sum(map(len, made)), seconds, cpu, [])

    limits, stretches = [limit()], []
    for _ in range(options.repeats):
        stretches.append(stretch())
        limits.append(limit())
    ratios = [
        s.rate / ((a.rate + b.rate) / 2)
        for s, a, b in zip(stretches, limits, limits[1:], strict=False)
    ]
    found = summary(stretches, limits, ratios)
    options.say(f"{share} % {kind}: {found['ratio']}")
    return found


async def write(w: World, given: Sequence[Batch], duplicates: int) -> float:
    """Submit all, a few at a time; the seconds it took. Raises LoadError on wrong verdicts."""
    environment = w.runtime.environment() | {"HEADWATER_STATE": str(w.runtime.folder.path)}
    settings = Settings.from_env(environment)
    writer = Road(msgspec.structs.replace(settings, ingest_writers=2))
    writer.start()
    found = 0

    async def client(waiting: Iterator[Batch]) -> None:
        nonlocal found
        for batch in waiting:
            codes = await writer.submit(batch)
            found += int((codes == Code.DUPLICATE).sum())

    try:
        await warm_up(w, writer, given[0])
        table = writer.bands.table
        assert table is not None
        # as resolve() finds it where there are no rules: the same line for everybody
        band = np.full(BATCH, table.line_of(w.tenant_id, None, 0), dtype=np.int32)
        waiting = iter([dataclasses.replace(b, band=band[: len(b)], bands=table) for b in given])
        started = time.perf_counter()
        await asyncio.gather(*(client(waiting) for _ in range(CLIENTS)))
        seconds = time.perf_counter() - started
    finally:
        await writer.stop()
    if found != duplicates:
        raise LoadError(f"{found} duplicates were found of {duplicates}")
    return seconds


async def warm_up(w: World, writer: Road, batch: Batch) -> None:
    """Open both connections; what was written for it goes again."""
    mask = np.arange(len(batch)) < 1
    nobody = np.zeros(1, dtype=np.int64)
    tasks = []
    for number in range(2):
        one = batch.where(mask)
        one = dataclasses.replace(one, sensor_id=nobody, ts=one.ts - number * 1_000_000)
        tasks.append(asyncio.create_task(writer.submit(one)))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    await writer.flush_latest(None)
    w.sql("delete from telemetry.reading where sensor_id = 0")
