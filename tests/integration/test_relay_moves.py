"""A statement over hot readings that are archived while it runs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from fix_archive import Archive
from fix_cold import BORDER
from fix_database import Server
from fix_relay import Ferry, ferrying, psql, rows

HOT = (
    "select count(*) from (select count(*) from site) as s, reading as r"
    f" where r.ts >= '{BORDER:%Y-%m-%d}' and r.ts < timestamptz '{BORDER:%Y-%m-%d}' + interval '1 day'"
)


@pytest.fixture(scope="module")
def ferry(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ferry]:
    with ferrying(pg_server, pg_template, tmp_path_factory.mktemp("relay")) as made:
        yield made


def waiting(archive: Archive) -> int:
    """The tenant's sessions that wait for a lock."""
    ((found,),) = archive.all(
        "select count(*) from pg_stat_activity"
        " where usename = 'tenant_a' and wait_event_type = 'Lock'"
    )
    return int(found)


def test_a_day_that_is_archived_meanwhile(ferry: Ferry) -> None:
    """The database has judged it hot, waits, and finds the day gone: it may not tell too few."""
    archive = ferry.world.archive
    wanted = rows(ferry.url, HOT)
    assert wanted[0][0] > 0
    with ThreadPoolExecutor() as threads, psycopg.connect(archive.database.url()) as holder:
        holder.execute("lock table telemetry.site in access exclusive mode")
        extended = threads.submit(rows, ferry.url, HOT)
        simple = threads.submit(psql, ferry.url, "-v", "VERBOSITY=verbose", "-c", HOT)
        end = time.monotonic() + 30
        while waiting(archive) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert archive.run(most=1).moved == 1
        holder.rollback()
        with pytest.raises(psycopg.errors.SerializationFailure, match="ask again"):
            extended.result(timeout=60)
        assert "40001" in simple.result(timeout=60).stderr and not simple.result().stdout.strip()
    assert rows(ferry.url, HOT) == wanted
