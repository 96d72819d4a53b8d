"""What judging a batch's candidates costs the server, and which part of it what.

Three gateways' batches of 10,000 readings in one transaction, one violation in a thousand, one
connection; processor milliseconds of its backend: readings, candidates, commit. In turn: as it is,
without the look at stored readings, without the evaluation, without the triggers on episodes.
`python -m bench.decisions.ingest_path.judge`
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg

from app.ingest.batch import COPY_CANDIDATE, COPY_READING, Batch, join
from bench.generate import METRICS, batches
from bench.load import copy
from bench.world import World, world

BEFORE, JOINED, ROUNDS, WARM = 20, 3, 14, 6
NO_LOOK = """
create or replace function alert.count_stored(
    p_sensor_ids bigint[], p_metric_ids smallint[], p_from timestamptz[], p_counts bigint[],
    p_to timestamptz
)
returns table (no bigint, reading_count bigint)
language sql stable as $$ select null::bigint, null::bigint where false $$
"""
SOURCE = "select pg_get_functiondef('alert.count_stored'::regproc)"
STEPS = {
    "as it is": (),
    "without the look": (NO_LOOK,),
    "without evaluation": ("alter table alert.candidate disable trigger all",),
    "without episodes' triggers": (
        "alter table alert.candidate enable trigger all",
        "alter table alert.episode disable trigger user",
    ),
}


def candidates(w: World, batch: Batch) -> Batch:
    """All readings of datastreams with a violation."""
    high = np.full(int(w.metric_ids.max()) + 1, np.inf)
    high[w.metric_ids] = [metric.high for metric in METRICS]
    stream = batch.sensor_id * 100 + batch.metric_id
    return batch.where(np.isin(stream, stream[batch.value > high[batch.metric_id]]))


def cpu_ms(pid: int) -> float:
    """Of one process, on the processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def measure(w: World, given: Iterator[Batch]) -> tuple[float, ...]:
    """Medians of readings, candidates and commit."""
    found = []
    with psycopg.connect(w.runtime.superuser_url) as connection, connection.cursor() as cursor:
        pid = connection.info.backend_pid
        for _ in range(ROUNDS):
            batch = join([next(given) for _ in range(JOINED)])
            times = [cpu_ms(pid)]
            for statement, data in (
                (COPY_READING, batch.copy_readings()),
                (COPY_CANDIDATE, candidates(w, batch).copy_candidates()),
            ):
                with cursor.copy(statement) as stream:
                    stream.write(data)
                times.append(cpu_ms(pid))
            connection.commit()
            times.append(cpu_ms(pid))
            found.append(np.diff(times))
    return tuple(statistics.median(column) for column in zip(*found[WARM:], strict=True))


def main() -> None:
    """Print milliseconds a transaction."""
    with world() as w:
        w.set_rules("tenant")
        made = batches(
            seed=1, sensors=len(w.sensor_ids), batch=10_000, count=2_000_000,
            end=int(time.time()) - 5,
        )  # fmt: skip
        given = [w.batch(readings) for readings in made]
        w.empty()
        w.prime(made)
        copy(w, [batch.copy_readings() for batch in given[:BEFORE]])
        rest = iter(given[BEFORE:])
        ((source,),) = w.sql(SOURCE)
        for name, statements in STEPS.items():
            w.sql(source)
            for statement in statements:
                w.sql(statement)
            readings, judged, commit = measure(w, rest)
            print(f"{name:27s} {readings:5.1f} {judged:5.1f} {commit:5.1f} ms")


if __name__ == "__main__":
    main()
