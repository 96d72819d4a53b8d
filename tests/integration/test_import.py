"""`headwater import`: what is stored, what is said, and kill -9 in the middle.

Every run is a process of its own, as the ingest and app roles.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fix_database import Database

from app.backfill.ledger import Part, covered
from app.backfill.load import PART, cut, key_order
from app.db.pool import connect
from app.ingest.batch import Batch
from jobs.rollup import refresh_rollups

HEADER = "sensor,ts,metric,value,unit\n"
COLUMNS = ("temp", "spcond", "sal", "do_pct", "do_mgl", "depth", "ph", "turb")


class Importer:
    """The command on a database with one tenant."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.environment = {
            **os.environ,
            "DATABASE_URL": database.url("headwater_app"),
            "INGEST_DATABASE_URL": database.url("headwater_ingest"),
            "HEADWATER_STATE": str(folder),
        }
        database.execute("insert into identity.tenant (slug, title) values ('acme', 'Acme')")

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from app.cli import main; main()", "import",
             *map(str, words), "--tenant", "acme"],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str | Path) -> tuple[int, str]:
        """Exit status and all that was said."""
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err

    def totals(self, *words: str | Path) -> dict[str, int]:
        """The verdicts of a run that must succeed."""
        status, said = self.run(*words)
        assert status == 0, said
        line = next(line for line in said.splitlines() if line.startswith("stored "))
        return {name: int(n.replace(",", "")) for name, n in re.findall(r"(\w+) ([\d,]+)", line)}

    def file(self, text: str, name: str = "long.csv") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.database.execute(query)

    def headwater(self, *words: str) -> str:
        """Another command that must succeed; what it says."""
        return subprocess.run(
            [sys.executable, "-c", "from app.cli import main; main()", *words],
            env=self.environment, capture_output=True, text=True, check=True, timeout=120,
        ).stdout  # fmt: skip

    def start_policies(self) -> None:
        """TimescaleDB finds a cloned database within a minute, unless it is told.

        Its scheduler looks around before each run, so the policies of minutes keep it awake.
        """
        for node in self.database.server.nodes:
            for statement in (
                "select alter_job(job_id, schedule_interval => interval '1 second')"
                " from timescaledb_information.jobs"
                " where proc_name = 'policy_refresh_continuous_aggregate'"
                " and schedule_interval = interval '15 seconds'",
                "select _timescaledb_functions.start_background_workers()"
                " where current_setting('timescaledb.license') = 'timescale'",
            ):
                node.execute(statement, self.database.name)

    def materialised(self, size: str) -> int:
        """How many readings the stored rollups have, without what views add on the fly."""
        total = 0
        for node in self.database.server.nodes:
            for (table,) in node.execute(
                "select format('%I.%I', c.materialization_hypertable_schema,"
                " c.materialization_hypertable_name)"
                " from timescaledb_information.continuous_aggregates as c"
                f" where c.view_name ~ '^rollup_{size}'"
                " union all select c.oid::regclass::text from pg_class as c"
                f" where c.relkind = 'r' and c.relname ~ '^rollup_{size}_stored(_[0-9]+)?$'",
                self.database.name,
            ):
                ((count,),) = node.execute(
                    f"select coalesce(sum(n), 0)::bigint from {table}", self.database.name
                )
                total += int(str(count))
        return total

    def refresh(self) -> None:
        """Bring the rollups up to date, as the job does."""

        async def run() -> None:
            async with await connect(self.database.url(), application="test") as connection:
                await refresh_rollups(connection, is_scheduled=False)

        asyncio.run(run())


@pytest.fixture
def importer(database: Database, tmp_path: Path) -> Importer:
    importer = Importer(database, tmp_path)
    importer.start_policies()
    return importer


def verdicts(
    stored: int = 0, duplicate: int = 0, conflict: int = 0, rejected: int = 0
) -> dict[str, int]:
    return {"stored": stored, "duplicate": duplicate, "conflict": conflict, "rejected": rejected}


def station(minutes: int) -> tuple[str, float]:
    """A NERRS file with 8 metrics a minute, and the sum of its values in stored units."""
    start = datetime(2012, 1, 1)
    lines, total = ["datetime_utc," + ",".join(COLUMNS)], 0
    for minute in range(minutes):
        values = [(minute * 7 + at) % 50 + 1 for at in range(len(COLUMNS))]
        total += sum(values) + 999 * values[1]  # mS/cm becomes uS/cm
        lines.append(f"{start + timedelta(minutes=minute)}," + ",".join(map(str, values)))
    return "\n".join(lines) + "\n", float(total)


def test_readings_are_resolved_as_the_api_does(importer: Importer) -> None:
    pytest.importorskip("pyarrow")
    path = importer.file(
        HEADER + "s1,2001-05-01T00:00:00Z,temperature,50,degF\n"
        "s1,2001-05-01T02:00:00+02:00,ph,7,\n"
        "s1,2001-05-01T00:01:00Z,ph,99,\n"
    )
    assert importer.totals(path, "--create-sensors") == verdicts(stored=3)
    assert importer.rows(
        "select m.code, r.ts::text, round(r.value::numeric, 6)::float8, r.quality"
        " from telemetry.reading as r join telemetry.metric as m using (metric_id)"
        " order by m.code, r.ts"
    ) == [
        ("ph", "2001-05-01 00:00:00+00", 7.0, 2),
        ("ph", "2001-05-01 00:01:00+00", 99.0, 4),
        ("temperature", "2001-05-01 00:00:00+00", 10.0, 2),
    ]


def test_conflicts_duplicates_and_rejections_are_counted(importer: Importer) -> None:
    pytest.importorskip("pyarrow")
    one = "s1,2001-05-01T00:00:00Z,ph,7,\n"
    assert importer.totals(importer.file(HEADER + one), "--create-sensors") == verdicts(stored=1)
    other = importer.file(
        HEADER + one + "s1,2001-05-02T00:00:00Z,ph,6,\ns1,2001-05-02T00:00:00Z,ph,5,\n"
        "s1,2001-05-01T00:00:00Z,ph,8,\ns1,2999-01-01T00:00:00Z,ph,7,\ns1,2001-05-03T00:00:00Z,xx,7,\n",
        "other.csv",
    )
    expected = verdicts(stored=1, duplicate=1, conflict=2, rejected=2)
    assert importer.totals(other) == expected
    assert importer.totals(other) == expected | {"stored": 0, "duplicate": 2}
    assert importer.rows("select value from telemetry.reading order by ts") == [(7.0,), (6.0,)]


def test_unknown_sensors_stop_it_before_anything_is_written(importer: Importer) -> None:
    text, _ = station(3)
    status, said = importer.run(importer.file(text, "abcwq.csv"))
    assert status == 1
    assert "no sensor 'nerrs-abcwq'" in said and "--create-sensors" in said
    assert importer.rows("select count(*) from telemetry.reading") == [(0,)]
    assert importer.rows("select count(*) from telemetry.import_file") == [(0,)]


def test_parquet_with_a_zone_is_read(importer: Importer) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    moment = datetime(2001, 5, 1, tzinfo=UTC)
    table = {
        "sensor": ["s1", "s2", "s1"],
        "ts": arrow.array([moment, moment, None], arrow.timestamp("ns", "Europe/Berlin")),
        "metric": ["ph", "temperature", "ph"],
        "value": [7.25, 8.5, 1.0],
    }
    parquet.write_table(arrow.table(table), importer.folder / "long.parquet")
    path = importer.folder / "long.parquet"
    assert importer.totals(path, "--create-sensors") == verdicts(stored=2, rejected=1)
    assert importer.rows("select distinct ts::text from telemetry.reading") == [
        ("2001-05-01 00:00:00+00",)
    ]


def test_alerts_are_raised_only_with_judge(importer: Importer) -> None:
    importer.rows(
        "insert into alert.threshold (tenant_id, metric_id, severity, side, limit_value)"
        " select t.tenant_id, m.metric_id, 'critical', 'high', 45 from identity.tenant as t"
        " cross join telemetry.metric as m where m.code = 'turbidity' and t.slug = 'acme'"
    )
    text, _ = station(60)
    path = importer.file(text, "abcwq.csv")
    assert importer.totals(path, "--create-sensors")["stored"] == 480
    assert importer.rows("select count(*) from alert.episode") == [(0,)]
    later = importer.file(text.replace("2012-01-01", "2012-01-02"), "defwq.csv")
    importer.totals(later, "--create-sensors", "--judge")
    assert importer.rows("select count(*) > 0 from alert.episode") == [(True,)]


def test_latest_readings_and_rollups_follow(importer: Importer) -> None:
    text, total = station(60)
    importer.totals(importer.file(text, "abcwq.csv"), "--create-sensors")
    assert importer.rows("select count(*), min(ts)::text from telemetry.latest_reading") == [
        (8, "2012-01-01 00:59:00+00")
    ]
    importer.refresh()
    text = text.replace("2012-01-01 00", "2012-01-01 01")  # behind what is materialised
    importer.totals(importer.file(text, "abcwq.csv"))
    importer.refresh()
    assert importer.rows("select sum(n), sum(value_sum) from analytics.reading_1h") == [
        (960, 2 * total)
    ]


def test_late_history_of_many_sensors_is_in_their_rollups(importer: Importer) -> None:
    sensors, minutes = 40, 90  # of every group of shards, where there are several

    def history(hour: int) -> Path:
        begin = datetime(2012, 1, 1, hour, tzinfo=UTC)
        return importer.file(
            HEADER
            + "".join(
                f"s{sensor},{begin + timedelta(minutes=minute)},temperature,{sensor + minute % 7},degC\n"
                for minute in range(minutes)
                for sensor in range(sensors)
            ),
            f"{hour}.csv",
        )

    assert importer.totals(history(12), "--create-sensors")["stored"] == sensors * minutes
    importer.refresh()
    assert importer.totals(history(3))["stored"] == sensors * minutes  # behind what is stored
    importer.refresh()
    raw = importer.rows(
        "select sensor_id, count(*), sum(value) from telemetry.reading group by 1 order by 1"
    )
    assert len(raw) == sensors
    for size in ("1m", "1h", "1d"):
        assert raw == importer.rows(
            f"select sensor_id, sum(n), sum(value_sum) from analytics.reading_{size}"
            " group by 1 order by 1"
        ), size


def test_rollups_are_stored_when_the_import_ends(importer: Importer) -> None:
    sensors, days = 12, 40

    def history(name: str, begin: datetime) -> Path:
        hours = [begin + timedelta(hours=hour) for hour in range(24 * days)]
        rows = (f"s{at},{hour},ph,{at % 5 + 3},\n" for hour in hours for at in range(sensors))
        return importer.file(HEADER + "".join(rows), name)

    status, said = importer.run(
        history("new.csv", datetime(2012, 6, 1, tzinfo=UTC)), "--create-sensors"
    )
    assert status == 0 and "rollups refreshed in " in said, said
    # behind what is refreshed already, and whoever comes next must find both
    status, said = importer.run(history("old.csv", datetime(2012, 3, 1, tzinfo=UTC)))
    assert status == 0 and "rollups refreshed in " in said, said
    stored = {size: importer.materialised(size) for size in ("1m", "1h", "1d")}
    assert set(stored.values()) == {2 * sensors * days * 24}, stored


def test_whoever_runs_the_jobs_has_late_readings_rolled_up_at_once(importer: Importer) -> None:
    importer.totals(importer.file(HEADER + "s1,2012-06-01T00:00:00Z,ph,7,\n"), "--create-sensors")
    importer.rows(
        "with r as (insert into telemetry.reading (sensor_id, ts, value, metric_id, quality)"
        " select sensor_id, '2012-03-01', 7, metric_id, 2 from telemetry.latest_reading returning 1)"
        " select count(*) from r"
    )
    importer.rows(
        "insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)"
        " select sensor_id, '2012-03-01', '2012-03-01', 1 from telemetry.sensor returning 1"
    )
    assert importer.headwater("jobs", "--once", "refresh_rollups") == "refresh_rollups: done\n"
    assert [importer.materialised(size) for size in ("1m", "1h", "1d")] == [2, 2, 2]


def test_killed_again_and_again_it_goes_on_and_stores_nothing_twice(importer: Importer) -> None:
    minutes = 86_400
    text, total = station(minutes)
    path = importer.file(text, "abcwq.csv")
    parts = 0
    for _ in range(2):
        process = importer.start(path, "--create-sensors")
        deadline = time.monotonic() + 60
        before = parts
        while parts <= before and process.poll() is None and time.monotonic() < deadline:
            ((parts,),) = importer.rows("select count(*) from telemetry.import_part")  # type: ignore[assignment]
            time.sleep(0.005)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.communicate()
    assert parts >= 2
    got = importer.totals(path)
    assert got["stored"] > 0 and got["stored"] + got["duplicate"] == minutes * 8
    state = [(minutes * 8, total)]
    assert importer.rows("select count(*), sum(value) from telemetry.reading") == state
    assert importer.rows("select stored + duplicate from telemetry.import_file") == [(minutes * 8,)]
    assert importer.totals(path) == verdicts(duplicate=minutes * 8)
    assert importer.totals(path, "--again") == verdicts(duplicate=minutes * 8)
    assert importer.rows("select count(*), sum(value) from telemetry.reading") == state
    assert importer.rows("select sum(reading_count) from telemetry.ingest_log") == [(minutes * 8,)]


def test_parts_end_where_days_end_and_no_time_stands_in_two() -> None:
    day = 86_400_000_000
    ts = np.sort(
        np.concatenate([np.repeat(np.arange(300) * day, 1_500), np.zeros(PART * 3, np.int64)])
    )
    parts = cut(ts)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert parts[0].start == 0 and parts[-1].stop == len(ts)
    assert all(ts[part.stop - 1] < ts[part.stop] for part in parts[:-1])


def test_key_order_is_that_of_the_key_and_keeps_the_files_order_among_equals() -> None:
    batch = Batch(
        np.array([2, 1, 1, 1]), np.array([1, 2, 1, 1], np.int16), np.array([5, 5, 5, 5]),
        np.zeros(4), np.zeros(4, np.int16),
    )  # fmt: skip
    assert key_order(batch).tolist() == [2, 3, 1, 0]


def test_what_overlapping_parts_cover() -> None:
    parts = [Part(5, 20, 0, 0, 0), Part(8, 12, 0, 0, 0), Part(30, 30, 0, 0, 0)]
    ts = np.array([4, 5, 15, 20, 21, 30, 31])
    assert covered(ts, parts).tolist() == [False, True, True, True, False, True, False]
