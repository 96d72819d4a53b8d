"""An archive of the test's own: a database, a folder, and a ledger of every reading that was stored."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from fix_database import Database

from app.archive.book import OWNER
from app.archive.lake import TABLE, Lake
from app.archive.place import Place
from app.settings import Settings
from jobs import archive as job

DAY = datetime(2026, 3, 1, tzinfo=UTC)
WIDTH = {"1m": "1 minute", "1h": "1 hour", "1d": "1 day"}
ARGUMENTS = [sys.executable, "-c", "from app.cli import main; main()"]

Key = tuple[datetime, int, int]


class Archive:
    """What tests do with an archive. `ledger` is the truth: key -> (value, quality)."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.settings = Settings(
            database_url=database.url("headwater_app"),
            owner_database_url=database.url(),
            archive_url=f"file:{folder}",
        )
        self.db = psycopg.connect(database.url(), autocommit=True, options="-c timezone=UTC")
        self.ledger: dict[Key, tuple[float, int]] = {}
        self.tenants: dict[str, int] = {}

    def all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows, as superuser."""
        cursor = self.db.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []

    def on_hypertables(self, statement: str) -> None:
        """A statement with {table} for each hypertable of readings, where it is."""
        for url in self.database.urls().values():
            with psycopg.connect(url, autocommit=True) as line:
                for (table,) in line.execute(_HYPERTABLES).fetchall():
                    line.execute(statement.format(table=table).encode())

    def make_tenant(self, slug: str, sensors: int = 2) -> list[int]:
        """A tenant's sensors."""
        ((tenant_id,),) = self.all(
            "insert into identity.tenant (slug, title) values (%s, %s) returning tenant_id",
            slug,
            slug,
        )
        self.tenants[slug] = tenant_id
        made = self.all(
            "insert into telemetry.sensor (tenant_id, uid) select %s, %s || n"
            " from generate_series(1, %s) as n returning sensor_id",
            *(tenant_id, f"{slug}-", sensors),
        )
        return [row[0] for row in made]

    def fill(self, sensors: list[int], *, day: int = 0, every: int = 10, seed: int = 1) -> None:
        """A day of two metrics, a reading in `every` minutes, off the full minute."""
        rng = random.Random(f"{seed}-{day}")
        rows = {
            (
                DAY + timedelta(days=day, minutes=minute, microseconds=rng.randrange(10**6)),
                sensor,
                metric,
            ): (round(rng.gauss(10, 3), 2), rng.choice([2, 2, 2, 3, 4]))
            for sensor in sensors
            for metric in (1, 2)
            for minute in range(0, 1440, every)
        }
        self.store(rows)

    def store(self, rows: dict[Key, tuple[float, int]]) -> None:
        """As the writer does: readings and log in one transaction. What is known already stays."""
        with self.db.transaction(), self.db.cursor() as cursor:
            with cursor.copy(
                "copy telemetry.reading (ts, sensor_id, metric_id, value, quality) from stdin"
            ) as copy:
                for key, rest in rows.items():
                    copy.write_row((*key, *rest))
            cursor.execute(
                "insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)"
                " select sensor_id, min(ts), max(ts), count(*)"
                " from unnest(%s::bigint[], %s::timestamptz[]) as r (sensor_id, ts)"
                " group by sensor_id, date_trunc('day', ts, 'UTC')",
                ([key[1] for key in rows], [key[0] for key in rows]),
            )
        self.ledger = rows | self.ledger

    def run(self, **options: Any) -> job.Outcome:
        """A run in this process."""
        return asyncio.run(job.run(self.settings, **options))

    def lake(self, *, is_writer: bool = False) -> Lake:
        """The lake, to look or to meddle."""
        url = self.settings.owner_database_url if is_writer else self.settings.database_url
        role = OWNER if is_writer else ""
        return Lake(Place.of(self.settings), url, role=role, is_writer=is_writer, threads=1)

    def command(self, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
        """`headwater archive …` in a process of its own."""
        environment = {
            **os.environ,
            "DATABASE_URL": self.settings.database_url,
            "OWNER_DATABASE_URL": self.settings.owner_database_url,
            "ARCHIVE_URL": self.settings.archive_url,
            **settings,
        }
        return subprocess.Popen(
            [*ARGUMENTS, "archive", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def output(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """Exit status and what it said."""
        process = self.command(*arguments, **settings)
        text, _ = process.communicate(timeout=120)
        return process.returncode, text

    def hot(self) -> dict[Key, tuple[float, int]]:
        """What is in the database."""
        rows = self.all("select ts, sensor_id, metric_id, value, quality from telemetry.reading")
        return {row[:3]: row[3:] for row in rows}

    def cold(self) -> dict[Key, tuple[float, int]]:
        """What counts as cold; fails where a key is there twice."""
        exports = [row[0] for row in self.all("select export_id from archive.cold_range")]
        if not exports:
            return {}
        lake = self.lake()
        try:
            rows = lake.run(
                f"select ts, sensor_id, metric_id, value, quality from {TABLE}"
                f" where export_id in ({', '.join(map(str, exports))})"
            )
        finally:
            lake.close()
        found = {(row[0].astimezone(UTC), *row[1:3]): row[3:] for row in rows}
        assert len(found) == len(rows), "a reading is in the lake twice"
        return found

    def states(self) -> dict[str, int]:
        """Exports by state."""
        return dict(self.all("select state, count(*) from archive.export group by 1"))

    def assert_nothing_lost(self) -> None:
        """Hot and cold together are the ledger; a cold reading wins over a late one."""
        assert self.hot() | self.cold() == self.ledger

    def assert_rollups_are_whole(self) -> None:
        """Every rollup equals the aggregation of the ledger."""
        self.all("create temporary table if not exists ledger (like telemetry.reading)")
        self.all("truncate ledger")
        with self.db.cursor() as cursor, cursor.copy("copy ledger from stdin") as copy:
            for (ts, sensor, metric), (value, quality) in self.ledger.items():
                copy.write_row((sensor, ts, value, metric, quality))
        for name, width in WIDTH.items():
            ((count,),) = self.all(_DIFFERENCES.format(name=name, width=width))
            assert count == 0, f"{count} buckets of {name} differ"


_HYPERTABLES = """
select format('%I.%I', h.hypertable_schema, h.hypertable_name)
from timescaledb_information.hypertables as h
where h.hypertable_schema = 'telemetry' and h.hypertable_name ~ '^reading(_[0-9]+)?$'
"""
_DIFFERENCES = """
with raw as (
    select
        sensor_id, metric_id, time_bucket(interval '{width}', ts) as bucket, count(*) as n,
        min(value) as value_min, max(value) as value_max, sum(value) as value_sum,
        (array_agg(value order by ts))[1] as value_first,
        (array_agg(value order by ts desc))[1] as value_last,
        count(*) filter (where quality = 3) as n_suspect
    from ledger
    group by 1, 2, 3
)
select count(*)
from raw
full join analytics.reading_{name} as r using (sensor_id, metric_id, bucket)
where (raw.n, raw.value_min, raw.value_max, raw.value_first, raw.value_last, raw.n_suspect)
        is distinct from (r.n, r.value_min, r.value_max, r.value_first, r.value_last, r.n_suspect)
    or abs(raw.value_sum - r.value_sum) > 1e-9
"""


@pytest.fixture
def archive(database: Database, tmp_path: Path) -> Iterator[Archive]:
    """Empty, in a folder."""
    made = Archive(database, tmp_path / "lake")
    yield made
    made.db.close()


def with_settings(archive: Archive, **changes: Any) -> None:
    """Other settings from now on."""
    archive.settings = msgspec.structs.replace(archive.settings, **changes)
