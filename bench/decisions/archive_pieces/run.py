"""What PostgreSQL takes to hand a chunk over, by how the statement asks for it; nothing is sent.

`python -m bench.decisions.archive_pieces.run`: processor time of one backend a reading, the median of
three passes that take turns.
"""

import os
from pathlib import Path

import psycopg

from bench.options import Options
from bench.report import median
from bench.scenarios.archive import load
from bench.scenarios.storage import walks
from bench.world import world

PASSES = 3
TS = "string_agg(timestamptz_send(r.ts), null::bytea)"
VALUE = "string_agg(float8send(r.value), null::bytea)"
FLAG = "string_agg(int2send(r.quality), null::bytea)"
RARE = f"{FLAG} filter (where r.quality <> 2)"
STATS = "count(*), min(r.ts), max(r.ts), sum(r.value)"
KEY = "int8send(r.sensor_id * 1048576 + (r.metric_id * 16 + r.quality))"
SENSOR = "string_agg(int8send(r.sensor_id), null::bytea)"
METRIC = "string_agg(int2send(r.metric_id), null::bytea)"
COPY = "copy (select * from telemetry.reading) to '/dev/null' (format binary)"
SERIES = "group by r.sensor_id, r.metric_id"


def asked(columns: str, rest: str = SERIES) -> str:
    """Only lengths leave the server, so that the way out is not measured."""
    return f"select count(q) from (select {columns} from telemetry.reading as r {rest}) as q"  # noqa: S608


WAYS = {
    "COPY to /dev/null, the limit": COPY,
    "series: three columns, statistics": asked(f"{TS}, {VALUE}, {FLAG}, {STATS}"),
    "series: flags where rare, statistics": asked(f"{TS}, {VALUE}, {RARE}, {STATS}"),
    "series and flag: two columns, statistics": asked(f"{TS}, {VALUE}, {STATS}", SERIES + ", r.quality"),
    "series: two columns": asked(f"{TS}, {VALUE}"),
    "series: statistics alone": asked(STATS),
    "series: rare flags alone": asked(f"{TS}, {FLAG}", "where r.quality <> 2 " + SERIES),
    "pages: five columns, statistics": asked(f"{SENSOR}, {METRIC}, {TS}, {VALUE}, {FLAG}, {STATS}", ""),
    "pages: key and two columns, statistics": asked(
        f"string_agg({KEY}, null::bytea), {TS}, {VALUE}, {STATS}", ""
    ),
}  # fmt: skip


def used(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Both stores, where the edition has both."""
    with world(sensors=100) as w:
        for is_columnar in (False, True) if w.has_columnstore else (False,):
            load(w, walks(Options(seconds=2.0)), is_columnar=is_columnar)
            print(f"\n{'columnstore' if is_columnar else 'row store'}")
            with psycopg.connect(w.runtime.superuser_url, autocommit=True) as line:
                line.execute("set jit = off")
                line.execute("set work_mem = '64MB'")
                line.execute("set max_parallel_workers_per_gather = 0")
                ((n,),) = line.execute("select count(*) from telemetry.reading").fetchall()
                found: dict[str, list[float]] = {way: [] for way in WAYS}
                for _ in range(PASSES):
                    for way, statement in WAYS.items():
                        begun = used(line.info.backend_pid)
                        line.execute(statement.encode())
                        found[way].append((used(line.info.backend_pid) - begun) / n * 1e9)
            for way, times in found.items():
                print(f"{way:42} {median(times):5.0f} ns")


if __name__ == "__main__":
    main()
