"""A long history: a hundred sensors of five metrics every 30 minutes, rolled up and compressed."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np

from app.ingest.batch import Batch
from bench.generate import METRICS, walk
from bench.load import copy
from bench.options import Options
from bench.world import SITE_SENSORS, World

STEP = timedelta(minutes=30)
STREAMS = SITE_SENSORS * len(METRICS)
DAY = 86_400


def load_history(w: World, options: Options, *, end: int, first: int, upto: int) -> None:
    """Make history older, from `first` to `upto` readings; rolled up and compressed as in real life."""
    step = int(STEP.total_seconds())
    streams = [metric for _ in range(SITE_SENSORS) for metric in METRICS]
    part = 2_000
    for tick in range(first // STREAMS, upto // STREAMS, part):
        ticks = min(part, upto // STREAMS - tick)
        value = walk(np.random.default_rng([options.seed, tick]), ticks, streams)
        ts = (end - (tick + 1 + np.arange(ticks, dtype=np.int64))[::-1] * step) * 1_000_000
        batch = Batch(
            sensor_id=np.tile(np.repeat(w.sensor_ids[:SITE_SENSORS], len(METRICS)), ticks),
            metric_id=np.tile(w.metric_ids, ticks * SITE_SENSORS),
            ts=np.repeat(ts, STREAMS),
            value=value.reshape(-1),
            quality=np.full(ticks * STREAMS, 2, dtype=np.int16),
        )
        size = 50 * STREAMS
        places = np.arange(len(batch))
        copy(
            w,
            [
                batch.where((places >= n) & (places < n + size)).copy_readings()
                for n in range(0, len(batch), size)
            ],
        )
        options.say(f"{(tick + ticks) * STREAMS:,} readings of history")
    w.sql(
        "insert into telemetry.latest_reading (sensor_id, metric_id, ts, value, quality)"
        " select distinct on (r.sensor_id, r.metric_id)"
        " r.sensor_id, r.metric_id, r.ts, r.value, r.quality from telemetry.reading as r"
        " where r.ts >= to_timestamp(%s) order by r.sensor_id, r.metric_id, r.ts desc"
        " on conflict do nothing",
        end - step,
    )
    roll_up(w, end - upto // STREAMS * step, end - first // STREAMS * step)
    options.say("rolled up")
    if w.has_columnstore:
        w.sql(
            "select compress_chunk(c, if_not_compressed => true)"
            " from show_chunks('telemetry.reading', older_than => interval '1 day') as c"
        )
    w.sql("vacuum (analyze)")
    w.sql("checkpoint")


def roll_up(w: World, since: int, until: int) -> None:
    """What a refresh of all does; two halves at once where ranges can be refreshed beside each other."""
    if w.has_columnstore:
        first, last = since // DAY * DAY, -(-until // DAY) * DAY
        middle = (first + last) // 2 // DAY * DAY
        halves = [(first, middle), (middle, last)] if first < middle else [(first, last)]
        with ThreadPoolExecutor(len(halves)) as pool:
            list(pool.map(lambda half: refresh(w, *half), halves))
    asyncio.run(w.refresh_rollups())  # what is left, to this moment


def refresh(w: World, since: int, until: int) -> None:
    """One range of all rollups, each made of the one before it."""
    steps = w.sql(
        "select telemetry.refresh_call(p.rollup, to_timestamp(%s), to_timestamp(%s))"
        " from telemetry.rollups() as p order by p.no",
        *(since, until),
    )
    for (step,) in steps:
        w.sql(step)
