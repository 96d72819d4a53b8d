"""Attacks on people's SQL where the archive answers: through the API, and past the guard."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from fix_archive import DAY, Archive
from fix_database import Database, Server
from fix_server import environment_of, serving
from fix_sql import MARK, VALUE, World, is_clean, statements

from app.archive.place import Place
from app.db.pool import connect
from app.errors import Problem
from app.query.answer import Basket
from app.query.cold import Plan, files_cold, loads
from app.query.cost import Cost
from app.query.duckdb_functions import Untranslatable
from app.query.engine import Engine
from app.query.gather import gather
from app.query.reach import Need
from app.query.scope import Scope
from app.query.words import TABLES

OURS = [text for _, text in statements("duckdb_attacks.txt")]


class Fort(World):
    """Both tenants' readings of two days are archived."""

    def fill(self, archive: Archive) -> None:
        self.archive = archive
        archive.store(
            {
                (DAY + timedelta(minutes=30 * n), sensor, 1): (value + n / 100, 2)
                for n in range(96)
                for sensor, value in ((self.my_sensor, 7.0), (self.sensor, VALUE))
            }
        )
        outcome = archive.run()
        assert (outcome.moved, outcome.problems) == (2, [])

    def files(self, tenant_id: int) -> list[Path]:
        return sorted(self.archive.folder.rglob(f"tenant_id={tenant_id}/*.parquet"))

    def armed(self, text: str) -> str:
        """With what the corpus has stand-ins for."""
        for name, value in {
            "{file}": self.files(self.other.tenant_id)[0],
            "{mine}": self.files(self.mine.tenant_id)[0],
            "{folder}": self.archive.folder,
            "{url}": self.archive.database.url("headwater_sql"),
        }.items():
            text = text.replace(name, str(value))
        return text

    def state(self) -> str:
        """The database and every file of the archive."""
        made = hashlib.sha256(str(self.digest()).encode())
        for path in sorted(self.archive.folder.rglob("*")):
            made.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
        return made.hexdigest()


@pytest.fixture(scope="module")
def fort(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fort]:
    database = Database(pg_server, pg_server.create(pg_template))
    archive = Archive(database, tmp_path_factory.mktemp("archive") / "lake")
    settings = environment_of(database) | {
        "ARCHIVE_URL": archive.settings.archive_url,
        "SQL_TIMEOUT_SECONDS": "5",
    }
    try:
        with serving(settings, database.url()) as api:
            made = Fort(api)
            made.fill(archive)
            yield made
    finally:
        archive.db.close()
        pg_server.drop(database.name)


@contextmanager
def engine_of(fort: Fort, folder: Path) -> Iterator[Engine]:
    """DuckDB as a query of my tenant finds it."""
    tenant_id = fort.mine.tenant_id
    settings = msgspec.structs.replace(
        fort.archive.settings,
        sql_database_url=fort.archive.database.url("headwater_sql"),
    )
    place = Place.of(settings)
    texts = loads([Need(view=view) for view in TABLES], Scope(tenant_id=tenant_id))
    plan = Plan(
        text="",
        columns=[],
        loads=texts,
        scan=Cost(0, 0),
        within=(None, None),
        tenant_id=tenant_id,
    )
    permit = fort.permit(tenant_id)

    async def made() -> Engine:
        async with (
            await connect(settings.database_url, application="test") as main,
            await connect(settings.sql_database_url, application="test") as connection,
        ):
            hot = await gather(connection, texts, folder, permit=permit, settings=settings)
            cold = await files_cold(lambda: nullcontext(main), plan, place)
        engine = Engine(folder, memory_mb=128)
        engine.open(hot, cold, place, tenant_id)
        return engine

    engine = asyncio.run(made())
    try:
        yield engine
    finally:
        engine.close()


def asked(engine: Engine, text: str) -> str:
    """What a text gets out of it within half a second."""
    basket = Basket(limit=100, max_bytes=1_000_000)
    timer = threading.Timer(0.5, engine.interrupt)
    timer.start()
    try:
        engine.ask(text, basket)
    except (Problem, Untranslatable) as exc:
        return str(exc)
    except UnicodeError:  # no text that DuckDB could be given
        return ""
    finally:
        timer.cancel()
        timer.join()
    return str(basket.rows)


def test_attacks_through_the_api_where_the_archive_answers(fort: Fort) -> None:
    before = fort.state()
    answer = fort.ask("select count(*) from reading")
    assert answer.status_code == 200, answer.text
    everything = answer.json()
    assert (everything["engine"], everything["rows"]) == ("duckdb", [[600 + 96]])
    for text in fort.attacks:
        answer = fort.ask(text, limit=100)
        assert answer.status_code in (200, 422), (text, answer.text)
        assert is_clean(answer.text) or MARK in text.lower(), (text, answer.text)
    assert fort.state() == before


@pytest.mark.parametrize("statement", OURS)
def test_the_guard_takes_nothing_that_only_duckdb_knows(fort: Fort, statement: str) -> None:
    answer = fort.ask(fort.armed(statement))
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/query-refused"


def test_past_the_guard_there_are_only_my_own_rows(fort: Fort, tmp_path: Path) -> None:
    """The second wall alone: free SQL in the DuckDB that a query of mine is given."""
    before = fort.state()
    with engine_of(fort, tmp_path) as engine:
        assert asked(engine, "select count(*) from tenant.reading") == "[(696,)]"
        assert asked(engine, "select sensor from tenant.sensor") == "[('s1',)]"
        for text in fort.attacks + list(map(fort.armed, OURS)):
            found = asked(engine, text)
            known = text.lower().replace(str(fort.archive.folder), "")
            assert is_clean(found) or MARK in known, (text, found)
            assert "root:" not in found, text
        # and it is as it was
        assert asked(engine, "select count(*), max(value) < 20 from tenant.reading") == (
            "[(696, True)]"
        )
    assert fort.state() == before
    for name in ("hw-copied.csv", "hw-exported", "hw-profile"):
        assert not Path("/tmp", name).exists()


@pytest.mark.parametrize(
    "text",
    [
        "select * from read_parquet('{file}')",
        "select * from '{file}'",
        "select * from read_text('/etc/passwd')",
        "select * from glob('{folder}/**')",
        "select * from postgres_scan('{url}', 'tenant', 'sensor')",
        "copy (select 1) to '{mine}'",
        "create table x as select 1",
        "set memory_limit = '100GB'",
        "attach ':memory:' as x",
        "select 1; select 2",
    ],
)
def test_the_engine_itself_refuses(fort: Fort, tmp_path: Path, text: str) -> None:
    with (
        engine_of(fort, tmp_path) as engine,
        pytest.raises((Problem, Untranslatable)),
    ):
        engine.ask(fort.armed(text), Basket(limit=10, max_bytes=1_000))


def test_whose_rows_cold_ones_are(fort: Fort) -> None:
    """By the sensor and by the file: both must be the tenant's."""
    mine = fort.ask("select count(*), max(value) from reading").json()["rows"]
    assert mine == [[696, 10.0]]
    everybody = fort.ask("select count(distinct sensor_id) from reading", role="super_admin").json()
    assert everybody["rows"] == [[2]] and everybody["engine"] == "duckdb"
    one = fort.ask("select count(*) from reading", role="super_admin", tenant=MARK).json()
    assert one["rows"] == [[696]]
    named = fort.ask(f"select * from reading where sensor_id = {fort.sensor}").json()
    assert named["rows"] == []
    # a sensor that changed hands takes its archived past to nobody
    fort.api.sql(
        "update telemetry.sensor set tenant_id = %s where sensor_id = %s",
        *(fort.mine.tenant_id, fort.sensor),
    )
    try:
        assert fort.ask("select count(*) from reading where ts < '2026-06-01'").json()["rows"] == [
            [96]
        ]
    finally:
        fort.api.sql(
            "update telemetry.sensor set tenant_id = %s where sensor_id = %s",
            *(fort.other.tenant_id, fort.sensor),
        )
