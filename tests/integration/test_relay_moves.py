"""A statement over hot readings that are archived while it runs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from fix_cold import BORDER, ColdWorld
from fix_database import Database, Server
from fix_relay import drop_logins, login_of, psql, relaying, rows
from fix_server import environment_of

from app.local.credentials import free_port

HOT = (
    "select count(*) from (select count(*) from site) as s, reading as r"
    f" where r.ts >= '{BORDER:%Y-%m-%d}' and r.ts < timestamptz '{BORDER:%Y-%m-%d}' + interval '1 day'"
)


class Ferry:
    """A world of which one more day can be archived, and a tenant's way by the relay."""

    def __init__(self, world: ColdWorld, url: str) -> None:
        self.world = world
        self.url = url

    def waiting(self) -> int:
        ((found,),) = self.world.archive.all(
            "select count(*) from pg_stat_activity"
            " where usename = 'tenant_a' and wait_event_type = 'Lock'"
        )
        return int(found)


@pytest.fixture(scope="module")
def ferry(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ferry]:
    database = Database(pg_server, pg_server.create(pg_template))
    folder = tmp_path_factory.mktemp("relay")
    world = ColdWorld(database, folder / "lake")
    environment = environment_of(database) | {"ARCHIVE_URL": world.archive.settings.archive_url}
    try:
        login = login_of(database, "a")
        world.archive_now()
        with relaying(environment, free_port(), folder / "relay.log") as relay:
            yield Ferry(world, relay.url(login))
    finally:
        world.archive.db.close()
        pg_server.drop(database.name)
        drop_logins(pg_server, "a")


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
        while ferry.waiting() < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert archive.run(most=1).moved == 1
        holder.rollback()
        with pytest.raises(psycopg.errors.SerializationFailure, match="ask again"):
            extended.result(timeout=60)
        assert "40001" in simple.result(timeout=60).stderr and not simple.result().stdout.strip()
    assert rows(ferry.url, HOT) == wanted
