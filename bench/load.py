"""Stretches of load: what is measured (HTTP) and its limit (COPY), each on an emptied table.

Every stretch is checked: what the server acknowledged, what the table holds and what was sent agree in
number and in a digest over all columns, or the run fails.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import msgspec
import psycopg

from app.ingest.batch import COPY_READING
from bench.client import LoadError, Outcome, run
from bench.generate import Format, Readings, request
from bench.options import Options
from bench.report import median, rounded
from bench.server import Server
from bench.world import World

FORK = multiprocessing.get_context("fork")
COPY_CONNECTIONS = 2


class Answer(msgspec.Struct, frozen=True):
    """What counts of a reply."""

    sent: int
    stored: int
    duplicate: int = 0


@dataclass
class Stretch:
    """One measured stretch."""

    readings: int
    seconds: float
    cpu: dict[str, float]
    """Processor seconds by part; the load generator is `client`."""
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Readings a second."""
        return self.readings / self.seconds


def copy(
    world: World, buffers: Sequence[memoryview], *, connections: int = COPY_CONNECTIONS
) -> float:
    """COPY the buffers, a transaction each, over several connections; the seconds it took."""
    barrier = FORK.Barrier(connections)
    pipes, workers = [], []
    for number in range(connections):
        ours, theirs = FORK.Pipe(duplex=False)
        worker = FORK.Process(
            target=_copy_some,
            args=(world.runtime.ingest_url, buffers[number::connections], barrier, theirs),
        )
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    try:
        times = [pipe.recv() for pipe in pipes]
    except EOFError:
        raise LoadError("a COPY failed; its message is above") from None
    finally:
        for worker in workers:
            worker.join()
    return float(max(end for _, end in times) - min(start for start, _ in times))


def _copy_some(
    url: str, buffers: Sequence[memoryview], barrier: Barrier, report: Connection
) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        barrier.wait(60)
        start = time.monotonic()
        for buffer in buffers:
            with cursor.copy(COPY_READING) as stream:
                stream.write(buffer)
        report.send((start, time.monotonic()))


def copy_stretch(world: World, batches: list[Readings], buffers: list[memoryview]) -> Stretch:
    """The limit: two connections COPY into the same table, a transaction for each batch."""
    world.empty()
    world.prime(batches)
    before = world.cpu_seconds()
    seconds = copy(world, buffers)
    cpu = {"postgres": world.cpu_seconds() - before}
    return Stretch(sum(map(len, batches)), seconds, cpu, [])


def http_stretch(
    world: World, server: Server, requests: list[bytes], *, connections: int, readings: int
) -> Stretch:
    """POST the requests; the table is left as it was before."""
    database, api, own = world.cpu_seconds(), server.cpu_seconds(), time.process_time()
    outcome = run(server.port, requests, connections=connections)
    cpu = {
        "postgres": world.cpu_seconds() - database,
        "api": server.cpu_seconds() - api,
        "client": time.process_time() - own,
    }
    check_answers(outcome, readings)
    return Stretch(readings, outcome.seconds, cpu, outcome.latencies)


def check_answers(outcome: Outcome, readings: int) -> None:
    """Raise LoadError unless every reading was acknowledged."""
    if not any(outcome.bodies):
        return  # 204: all of it is stored, and the table is compared anyway
    answers = [msgspec.json.decode(body, type=Answer) for body in outcome.bodies]
    stored = sum(answer.stored + answer.duplicate for answer in answers)
    if stored != readings or sum(answer.sent for answer in answers) != readings:
        raise LoadError(f"{readings} readings were sent, {stored} acknowledged")


def requests_of(form: Format, batches: Sequence[Readings], key: str) -> list[bytes]:
    """The prebuilt requests."""
    return [request(form, form.encode(batch), key) for batch in batches]


def warm_up(world: World, server: Server, requests: Sequence[bytes], connections: int) -> None:
    """Let every cache fill and every connection open, unmeasured."""
    world.empty()
    run(server.port, requests[: max(8, connections)], connections=connections)


class Verifier:
    """What the table must hold after a stretch: the same as after the first."""

    def __init__(self, world: World, readings: int) -> None:
        self._world = world
        self._readings = readings
        self._digest: tuple[int, int] | None = None

    def check(self, what: str) -> None:
        """Raise LoadError where readings are lost, doubled or changed."""
        if self.wrong():
            found = self._world.digest()
            raise LoadError(
                f"{what}: the table holds {found}, expected {self._readings} {self._digest}"
            )

    def wrong(self) -> int:
        """How many readings are lost or doubled; at least 1 where any is changed."""
        found = self._world.digest()
        if self._digest is None:
            self._digest = found
        return abs(found[0] - self._readings) or int(found != self._digest)


def against_copy(
    world: World,
    batches: list[Readings],
    measured: Callable[[], Stretch],
    options: Options,
    what: str,
) -> dict[str, object]:
    """Interleave the limit and what is measured; the median of the ratios and the numbers behind.

    `measured` finds the table emptied and primed.
    """
    buffers = [world.batch(batch).copy_readings() for batch in batches]
    verifier = Verifier(world, sum(map(len, batches)))
    limits: list[Stretch] = []
    stretches: list[Stretch] = []
    for _ in range(options.repeats):
        limits.append(copy_stretch(world, batches, buffers))
        verifier.check("COPY")
        world.empty()
        world.prime(batches)
        stretches.append(measured())
        verifier.check(what)
    limits.append(copy_stretch(world, batches, buffers))
    ratios = [
        stretch.rate / ((before.rate + after.rate) / 2)
        for stretch, before, after in zip(stretches, limits, limits[1:], strict=False)
    ]
    found = summary(stretches, limits, ratios)
    options.say(
        f"{what}: {found['readings_per_second']:,.0f}/s of {found['limit_readings_per_second']:,.0f}/s"
        f" = {found['ratio']}"
    )
    return found


def summary(
    stretches: Sequence[Stretch], limits: Sequence[Stretch], ratios: Sequence[float]
) -> dict[str, object]:
    """Medians and spread."""
    return {
        "ratio": rounded(median(ratios)),
        "ratio_lowest": rounded(min(ratios)),
        "ratio_highest": rounded(max(ratios)),
        "readings_per_second": rounded(median([s.rate for s in stretches])),
        "limit_readings_per_second": rounded(median([s.rate for s in limits])),
        "cpu_us_per_reading": {
            part: rounded(median([s.cpu[part] / s.readings for s in stretches]) * 1e6, 3)
            for part in stretches[0].cpu
        },
        "limit_cpu_us_per_reading": {
            part: rounded(median([s.cpu[part] / s.readings for s in limits]) * 1e6, 3)
            for part in limits[0].cpu
        },
        "readings": stretches[0].readings,
        "repeats": len(stretches),
    }
