"""What judging a batch's candidates costs the server, and which part of it what.

Three gateways' batches in one transaction through a writer's connection (`app/ingest/link.py`), one
violation in a thousand; processor milliseconds of its backend. In turn: as it is, without the look
at stored readings, without the triggers on episodes, without the evaluation, without rules.
`python -m bench.decisions.ingest_path.judge [readings a batch]`
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from app.ingest.band import BandKeeper, BandTable
from app.ingest.batch import Batch, join
from app.ingest.link import Link
from app.ingest.shard import Target
from bench.generate import batches
from bench.load import copy
from bench.world import World, world

STORED, JOINED, WARM, TURNS = 200_000, 3, 15, 3
READINGS = 2_000_000
MOST_ROUNDS = 100
NO_LOOK = """
create or replace function alert.have_more_stored(
    p_sensor_ids bigint[], p_metric_ids smallint[], p_from timestamptz[], p_counts bigint[],
    p_to timestamptz
)
returns boolean[]
language sql stable as $$ select array_fill(false, array[cardinality(p_from)]) $$
"""
SOURCE = "select pg_get_functiondef('alert.have_more_stored'::regproc)"
STEPS = {
    "as it is": (),
    "without the look": (NO_LOOK,),
    "without episodes' triggers": ("alter table alert.episode disable trigger user",),
    "without evaluation": ("alter table alert.candidate disable trigger user",),
    "without rules": ("delete from alert.threshold",),
}
BACK = (
    "alter table alert.episode enable trigger user",
    "alter table alert.candidate enable trigger user",
)


def with_bands(w: World, batch: Batch, table: BandTable | None) -> Batch:
    """As the API hands it to a writer."""
    if table is not None:
        sensors, place = np.unique(batch.sensor_id, return_inverse=True)
        lines = [table.line_of(w.tenant_id, None, sensor) for sensor in sensors.tolist()]
        batch.band, batch.bands = np.array(lines, dtype=np.int32)[place], table
    return batch


def cpu_ms(pid: int) -> float:
    """Of one process, on the processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


async def measure(w: World, given: Iterator[Batch], rounds: int) -> float:
    """The median of transactions."""
    keeper = BandKeeper()
    link = await Link.open(w.runtime.ingest_url, keeper)
    pid = link.connection.info.backend_pid
    targets = {0: Target()}  # a link remembers by target
    found = []
    for _ in range(rounds):
        batch = with_bands(w, join([next(given) for _ in range(JOINED)]), keeper.table)
        before = cpu_ms(pid)
        if await link.store_new(targets, batch) is None:
            raise SystemExit("something of the batch was stored already")
        found.append(cpu_ms(pid) - before)
    await link.connection.close()
    return statistics.median(found[WARM:])


def main() -> None:
    """Print milliseconds a transaction."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    before = STORED // size
    with world() as w:
        made = batches(
            seed=1, sensors=len(w.sensor_ids), batch=size, count=READINGS, end=int(time.time()) - 5
        )
        given = [w.batch(readings) for readings in made]
        rounds = min(MOST_ROUNDS, (len(given) - before) // JOINED)
        ((source,),) = w.sql(SOURCE)
        found: dict[str, list[float]] = {name: [] for name in STEPS}
        for _ in range(TURNS):
            for name, statements in STEPS.items():
                w.set_rules("tenant")
                for statement in (source, *BACK, *statements):
                    w.sql(statement)
                w.empty()
                w.prime(made)
                copy(w, [batch.copy_readings() for batch in given[:before]])
                found[name].append(asyncio.run(measure(w, iter(given[before:]), rounds)))
        for name, times in found.items():
            print(
                f"{name:27s} {statistics.median(times):5.1f} ms ({min(times):.1f} to {max(times):.1f})"
            )


if __name__ == "__main__":
    main()
