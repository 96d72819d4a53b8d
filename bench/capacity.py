"""How many servers of which size a fleet needs: arithmetic on the committed reports, nothing else.

Every figure is read from bench/reports/; every choice is a field of Plan. Workers are taken to scale
linearly, which the direct road's report supports as far as two cores can: what one more worker costs in
processor time a reading, and how little the coordinator does.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.report import load_all

FLEETS = (10_000, 1_000_000, 10_000_000)
INTERVALS = (0.1, 1.0)
"""Readings a second of one sensor."""
SIZES = (4, 8, 16, 32, 64)
"""Cores of a server."""
DAY = 86_400
TB = 1e12


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is chosen."""

    rowstore_days: float = 2
    """Days in the row store: the present chunk and the one that the columnstore waits a day for."""
    columnstore_days: float = 28
    """Days after those in the columnstore, before readings go to the archive."""
    rollup_days: float = 30
    """Days of rollups by minute."""
    archive_years: float = 1
    """Years in Parquet, once, in an object store that keeps its own copies."""
    replicas: int = 1
    """Streaming replicas of each database server, as big as itself."""
    headroom: float = 0.5
    """Part of each server's cores and disk that the steady load leaves free."""
    disk_per_core_tb: float = 0.25
    """Fast disk a server has for each of its cores, in terabytes."""
    batch: int = 1_000
    """Readings a request, as gateways send them: 1,000 or 10,000."""
    questions_per_day: float = 1
    """How often a day somebody asks for a month by hour of each sensor."""
    overviews_per_hour: float = 12
    """Months by hour over all sensors that are asked for, an hour."""
    most_workers: int = 8
    """Servers get bigger before there are more workers than this."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; seconds are of one core like the reports'."""

    worker_s_per_million: float
    api_s_per_million: float
    coordinator_s_per_million: float
    upkeep_s_per_million: float
    """Rollups and columnstore."""
    question_s: float
    overview_s_per_stream: float
    wal_bytes: float
    rowstore_bytes: float
    columnstore_bytes: float
    parquet_bytes: float
    rollup_bytes: float
    """A bucket of a minute."""
    sources: tuple[str, ...]
    """One line a figure: where it is from."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one fleet needs."""

    sensors: int
    rate: float
    """Readings a second in all."""
    worker_cores: float
    """Busy cores of all workers, without headroom and replicas."""
    api_cores: float
    coordinator_cores: float
    disk_tb: float
    """On all workers together, without headroom and replicas."""
    archive_tb: float
    cores: int
    """Of a worker."""
    workers: int
    servers: int
    """Workers, coordinator and all replicas; a single server where that is enough."""
    is_bound_by_disk: bool
    wal_mb_per_worker: float
    """A second, to its disk and to each replica."""


def need(sensors: int, per_second: float, costs: Costs, plan: Plan) -> Need:
    """The servers for so many sensors."""
    rate = sensors * per_second
    millions = rate / 1e6
    asked = (
        sensors * plan.questions_per_day / DAY * costs.question_s
        + plan.overviews_per_hour / 3_600 * sensors * costs.overview_s_per_stream
    )
    busy = millions * (costs.worker_s_per_million + costs.upkeep_s_per_million) + asked
    coordinator = millions * costs.coordinator_s_per_million
    disk = disk_bytes(sensors, rate, costs, plan) / TB
    free = 1 - plan.headroom
    cores, workers = servers(busy / free, disk / free, plan)
    is_single = workers == 1
    return Need(
        sensors=sensors,
        rate=rate,
        worker_cores=busy,
        api_cores=millions * costs.api_s_per_million,
        coordinator_cores=0 if is_single else coordinator,
        disk_tb=disk,
        archive_tb=rate * costs.parquet_bytes * DAY * 365 * plan.archive_years / TB,
        cores=cores,
        workers=workers,
        servers=(workers + (not is_single)) * (1 + plan.replicas),
        is_bound_by_disk=disk / plan.disk_per_core_tb > busy,
        wal_mb_per_worker=rate * costs.wal_bytes / workers / 1e6,
    )


def disk_bytes(sensors: int, rate: float, costs: Costs, plan: Plan) -> float:
    """Readings in both stores, and their rollups by minute."""
    readings = (
        rate
        * DAY
        * (
            plan.rowstore_days * costs.rowstore_bytes
            + plan.columnstore_days * costs.columnstore_bytes
        )
    )
    buckets = min(rate, sensors / 60) * DAY * plan.rollup_days
    return readings + buckets * costs.rollup_bytes


def servers(cores: float, disk_tb: float, plan: Plan) -> tuple[int, int]:
    """The smallest size of which few enough do, and how many of it."""
    for size in SIZES:
        number = max(
            1, math.ceil(cores / size), math.ceil(disk_tb / (size * plan.disk_per_core_tb))
        )
        if number <= plan.most_workers or size == SIZES[-1]:
            return size, number
    raise AssertionError("unreachable")


def costs_of(folder: Path, plan: Plan) -> Costs:
    """From the committed reports. Raises KeyError, ValueError or StopIteration where they lack one."""
    reports = load_all(folder)
    distributed = [r for one in reports if one.scenario == "distributed" for r in one.results]
    storage = [r for one in reports if one.scenario == "storage" for r in one.results]
    road = max(
        (r for r in distributed if r.get("road") == "direct" and r["batch"] == plan.batch),
        key=lambda r: int(r["workers"]),
    )
    cpu: dict[str, float] = road["cpu_seconds_per_million"]
    workers = sum(seconds for name, seconds in cpu.items() if name.startswith("worker"))
    # rest that was taken off may be a clock tick more than all that it did
    coordinator = max(0.0, cpu["postgres"])
    one, every, upkeep = (
        next((r for r in distributed if r.get("question") == name), {})
        for name in ("one sensor by hour", "all sensors by hour", "upkeep")
    )
    kept = next(r for r in storage if r["kind"] == KIND)
    what = f"distributed*.json, direct road, {road['workers']} workers, {plan.batch:,} a batch"
    sources = [
        f"Processor seconds a million readings: workers {workers:.3g}, API {cpu['api']:.3g}, "
        f"coordinator {coordinator:.3g} ({what}).",
        f"Bytes a reading: row store {kept['rowstore']:.3g} with its index, columnstore "
        f"{kept['columnstore']:.3g}, Parquet {kept['parquet_zstd']:.3g} (storage.json, {KIND}); "
        f"WAL {road['wal_bytes_per_reading']:.3g} ({what}).",
    ]
    if upkeep:
        sources.append(
            f"Rollups {upkeep['refresh_s_per_million']:.3g} and columnstore "
            f"{upkeep['compress_s_per_million']:.3g} processor seconds a million readings, a bucket of "
            f"a minute {upkeep['rollup_1m_bytes']:.3g} bytes (distributed*.json, upkeep: a reading every "
            "hour, so that every reading makes a bucket of its own, the dearest case)."
        )
    else:
        sources.append(
            "**Not counted, because no report has it yet**: what rollups and the columnstore cost the "
            "processor, and the room of rollups."
        )
    if one and every:
        sources.append(
            f"One sensor's month by hour {one['p50_ms']:.3g} ms (distributed*.json, its time taken for "
            f"processor time); that of all sensors {every['cpu_ms']:.3g} ms of processor for "
            f"{every['streams']:,} datastreams."
        )
    else:
        sources.append("**Not counted, because no report has it yet**: what questions cost.")
    return Costs(
        worker_s_per_million=workers,
        api_s_per_million=cpu["api"],
        coordinator_s_per_million=coordinator,
        upkeep_s_per_million=sum(
            upkeep.get(f"{part}_s_per_million", 0.0) for part in ("refresh", "compress")
        ),
        question_s=one.get("p50_ms", 0.0) / 1e3,
        overview_s_per_stream=every.get("cpu_ms", 0.0) / 1e3 / every.get("streams", 1),
        wal_bytes=road["wal_bytes_per_reading"],
        rowstore_bytes=kept["rowstore"],
        columnstore_bytes=kept["columnstore"],
        parquet_bytes=kept["parquet_zstd"],
        rollup_bytes=upkeep.get("rollup_1m_bytes", 0.0),
        sources=tuple(sources),
    )


KIND = "walks, jittered clocks"
"""Of storage.json: the kind that takes the most room but for the bundled recordings."""


def needs(costs: Costs, plan: Plan) -> list[Need]:
    """Every fleet."""
    return [need(sensors, each, costs, plan) for sensors in FLEETS for each in INTERVALS]


def markdown(found: Sequence[Need], costs: Costs, plan: Plan) -> str:
    """The table, then what it rests on."""
    lines = [
        "| sensors | each, a second | readings a second | busy cores: database, API | hot disk TB "
        "| database servers | in all, with replicas | WAL MB/s a worker | archive TB |",
        "|---:|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for n in found:
        what = "1" if n.workers == 1 else f"coordinator + {n.workers}"
        limit = "disk" if n.is_bound_by_disk else "cores"
        lines.append(
            f"| {n.sensors:,} | {n.rate / n.sensors:g} | {n.rate:,.0f} "
            f"| {short(n.worker_cores + n.coordinator_cores)}, {short(n.api_cores)} | {short(n.disk_tb)} "
            f"| {what} of {n.cores} cores, {n.cores * plan.disk_per_core_tb:g} TB (by {limit}) "
            f"| {n.servers} | {short(n.wal_mb_per_worker)} | {short(n.archive_tb)} |"
        )
    return "\n".join([*lines, "", *(f"- {line}" for line in (*costs.sources, *assumptions(plan)))])


def short(number: float) -> str:
    """Two digits that count: the arithmetic has no more."""
    return f"{float(f'{number:.2g}'):,g}"


def assumptions(plan: Plan) -> list[str]:
    """What is chosen or taken for granted, each in a sentence."""
    return [
        f"Kept: {plan.rowstore_days:g} days in the row store, {plan.columnstore_days:g} in the "
        f"columnstore, rollups by minute for {plan.rollup_days:g} days (longer ones, alerts and the log "
        f"not counted), {plan.archive_years:g} years in Parquet.",
        f"{plan.headroom:.0%} of cores and disk stay free for bursts, catching up, checkpoints and a "
        f"failed neighbour's load; {plan.replicas} replica of every database server; "
        f"{plan.disk_per_core_tb:g} TB of fast disk a core.",
        f"A sensor measures one metric; gateways send {plan.batch:,} readings a request. The smallest "
        f"servers that are no more than {plan.most_workers} workers.",
        f"Somebody asks for each sensor's month by hour {plan.questions_per_day:g} times a day, and for "
        f"that of all sensors together {plan.overviews_per_hour:g} times an hour.",
        "A core is one of the machine named above. Memory, network and the disks' speed are not "
        "modelled: WAL is listed so that they can be.",
    ]
