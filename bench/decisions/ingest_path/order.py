"""What joining batches and putting them in the order of the key is worth to COPY.

The same readings (gateways of 100 sensors that buffer 20 seconds) by one and two connections: each
gateway's batch alone, five joined as they came, five joined in order of the key, and one gateway's by
series, as columnar bodies have them. `python -m bench.decisions.ingest_path.order [--repeats 3]`
"""

import argparse
import statistics
import time

import numpy as np

from app.ingest.batch import READING, Batch, join
from bench.generate import batches
from bench.load import copy
from bench.world import World, world

READINGS = 2_000_000
SIZE = 10_000
JOINED = 5


def by_key(batch: Batch) -> Batch:
    """In the order of the unique index."""
    return batch.where(np.lexsort((batch.metric_id, batch.sensor_id, batch.ts)))


def by_series(batch: Batch) -> Batch:
    """Each sensor's metric after the other."""
    return batch.where(np.lexsort((batch.ts, batch.metric_id, batch.sensor_id)))


def as_they_are(batch: Batch) -> memoryview:
    """The bytes of a COPY, without the sorting of `copy_readings`."""
    buffer, records = batch._filled(READING)
    records["quality"] = batch.quality
    return buffer


def ways(w: World) -> dict[str, list[memoryview]]:
    """The buffers of each way."""
    made = batches(
        seed=1, sensors=len(w.sensor_ids), batch=SIZE, count=READINGS, end=int(time.time()) - 5
    )
    w.empty()
    w.prime(made)
    given = [w.batch(readings) for readings in made]
    joined = [join(given[at : at + JOINED]) for at in range(0, len(given), JOINED)]
    return {
        "alone, by time": [as_they_are(batch) for batch in given],
        "alone, by series": [as_they_are(by_series(batch)) for batch in given],
        "joined": [as_they_are(batch) for batch in joined],
        "joined, by key": [as_they_are(by_key(batch)) for batch in joined],
    }


def main() -> None:
    """Print readings a second and the server's processor time a reading."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with world() as w:
        found: dict[tuple[str, int], list[tuple[float, float]]] = {}
        prepared = ways(w)
        for _ in range(repeats):
            for name, buffers in prepared.items():
                for connections in (1, 2):
                    w.empty()
                    before = w.cpu_seconds()
                    seconds = copy(w, buffers, connections=connections)
                    cpu = (w.cpu_seconds() - before) / READINGS * 1e6
                    found.setdefault((name, connections), []).append((READINGS / seconds, cpu))
        for (name, connections), runs in found.items():
            rate = statistics.median(run[0] for run in runs)
            cpu = statistics.median(run[1] for run in runs)
            print(f"{name:18s} x{connections}  {rate:>9,.0f}/s  {cpu:.2f} us a reading")


if __name__ == "__main__":
    main()
