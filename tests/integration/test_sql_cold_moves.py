"""People's SQL while readings move: where it runs, what counts, what happens when the archive is away."""

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from click.testing import CliRunner
from fix_archive import DAY, Archive
from fix_cold import ColdWorld
from fix_database import Database
from fix_server import Api

from app.archive.lake import home
from app.cli import group

Serve = Callable[..., Api]
TOTAL = "select count(*), sum(value), max(ts) from reading"


@pytest.fixture
def world(database: Database, serve: Serve, tmp_path: Path) -> ColdWorld:
    made = ColdWorld(database, tmp_path / "lake")
    made.archive_now()
    made.serve(serve(ARCHIVE_URL=made.archive.settings.archive_url))
    return made


def assert_complete(world: ColdWorld) -> None:
    """The ledger's rows of my sensors, each once."""
    mine = {k: v for k, v in world.archive.ledger.items() if k[1] in world.mine}
    found = world.found(
        "select ts, sensor_id, metric_id, value, quality from reading", limit=100_000
    )
    assert found["engine"] == "duckdb"
    assert sorted(tuple(row) for row in found["rows"]) == sorted(
        (f"{key[0]:%Y-%m-%dT%H:%M:%S.%f}Z".replace(".000000", ""), *key[1:], *rest)
        for key, rest in mine.items()
    )


def test_every_reading_once_whatever_moves(world: ColdWorld) -> None:
    archive = world.archive
    assert_complete(world)
    some = next(key for key in sorted(archive.ledger) if key[1] == world.mine[0])
    late = {(some[0] + timedelta(seconds=1 + n), world.mine[0], 1): (50.0 + n, 3) for n in range(5)}
    archive.store({some: (-99.0, 2)} | late)
    assert_complete(world)
    code, text = archive.output(
        "restore", "--from", "2026-03-02T00:00Z", "--to", "2026-03-03T00:00Z"
    )
    assert code == 0, text
    assert_complete(world)
    code, text = archive.output(
        "release", "--from", "2026-03-02T00:00Z", "--to", "2026-03-03T00:00Z"
    )
    assert code == 0, text
    assert archive.run().problems == []
    assert_complete(world)


def test_only_what_counts_is_read(world: ColdWorld) -> None:
    """Half-done exports don't, nor does what a tenant no longer keeps."""
    archive = world.archive
    everything = world.found(TOTAL)
    a_day = len(
        [key for key in archive.ledger if key[1] in world.mine and key[0] < DAY + timedelta(days=1)]
    )
    assert everything["scanned"]["cold_files"] == 3
    assert everything["scanned"]["cold_rows"] == 3 * a_day
    assert everything["scanned"]["cold_bytes"] > 0
    for statement in (
        "update archive.export set state = 'verified' where range_from = '2026-03-01'",
        "update archive.export set state = 'dropped';"
        " insert into archive.tenant_policy (tenant_id, expired_until)"
        f" values ({archive.tenants['a']}, '2026-03-02')",
    ):
        archive.all(statement)
        found = world.found(TOTAL)
        assert found["rows"][0][0] == everything["rows"][0][0] - a_day, statement
        assert found["scanned"]["cold_files"] == 2
    narrow = world.found(
        "select count(*) from reading where ts < '2026-03-03' and ts > '2026-03-02'"
    )
    assert narrow["scanned"]["cold_files"] == 1


def test_an_archive_that_is_away_is_a_503_that_says_what_to_do(world: ColdWorld) -> None:
    hot = "select count(*) from reading where ts >= '2026-03-04'"
    wanted = world.found(hot)["rows"]
    hidden = world.archive.folder.with_name("hidden")
    world.archive.folder.rename(hidden)
    answer = world.ask(TOTAL)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "add ts >= '2026-03-04T00:00:00Z'" in answer.json()["detail"]
    assert world.found(hot)["rows"] == wanted
    hidden.rename(world.archive.folder)
    assert world.ask(TOTAL).status_code == 200
    for path in world.archive.folder.rglob("tenant_id=*/*.parquet"):
        path.write_bytes(b"no parquet")
    assert world.ask(TOTAL).status_code == 503


def test_another_archive_url_is_a_503(world: ColdWorld, serve: Serve, tmp_path: Path) -> None:
    world.serve(serve(ARCHIVE_URL=f"file:{tmp_path / 'elsewhere'}"))
    answer = world.ask(TOTAL)
    assert answer.status_code == 503
    assert "ARCHIVE_URL" in answer.json()["detail"]


SLOW = (
    "select count(*) from reading as a, reading as b, reading as c"
    " where a.value + b.value + c.value < 0.5"
)


def assert_tidy() -> None:
    """No query's folder stays; those of other tests' queries are there for a moment."""
    end = time.monotonic() + 30
    while list(home().glob("sql-*")):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_limits_hold_in_the_archive(world: ColdWorld, serve: Serve) -> None:
    url = world.archive.settings.archive_url
    world.serve(serve(ARCHIVE_URL=url, SQL_TIMEOUT_SECONDS="1", SQL_MAX_COST="1e15"))
    answer = world.ask(SLOW)
    assert answer.status_code == 422
    assert "longer than 1 s" in answer.json()["detail"]
    assert_tidy()
    world.serve(serve(ARCHIVE_URL=url, SQL_MAX_COST="300", SQL_MEMORY_MB="64"))
    answer = world.ask("select count(*) from reading where ts < '2026-03-04'")
    assert answer.status_code == 200
    answer = world.ask("select sum(value) from reading as r, generate_series(1, 1000000) as g")
    assert answer.json()["type"] == "/problems/query-too-costly"
    world.serve(serve(ARCHIVE_URL=url, SQL_MAX_COST="1e15", SQL_MEMORY_MB="64"))
    answer = world.ask(
        "select count(x) from (select array_agg(md5(concat(a.value, b.value))) as x"
        " from reading as a, reading as b) as q"
    )
    assert answer.json()["type"] == "/problems/query-too-costly"
    assert "more memory" in answer.json()["detail"]
    assert world.ask(TOTAL).status_code == 200


def test_a_client_that_hangs_up_ends_its_query(world: ColdWorld, serve: Serve) -> None:
    url = world.archive.settings.archive_url
    api = serve(ARCHIVE_URL=url, SQL_MAX_COST="1e15", SQL_TIMEOUT_SECONDS="600", SQL_POOL_SIZE="1")
    world.serve(api)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{api.url}/api/v1/sql",
            json={"sql": SLOW},
            headers=world.tenant.headers("scientist"),
            timeout=3,
        )
    # the only place is free again, long before the time-out
    assert world.found(TOTAL)["engine"] == "duckdb"
    assert_tidy()


def test_the_command_line_says_which_engine(
    world: ColdWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "SQL_DATABASE_URL", "OWNER_DATABASE_URL"):
        monkeypatch.setenv(name, world.api.environment[name])
    monkeypatch.setenv("ARCHIVE_URL", world.archive.settings.archive_url)
    words = ["sql", "select count(*) as n from reading", "--tenant", "a", "--format", "csv"]
    found = CliRunner().invoke(group, words)
    mine = len([key for key in world.archive.ledger if key[1] in world.mine])
    assert found.stdout.split() == ["n", str(mine)]
    assert "answered by DuckDB, with 1,728 archived readings in 3 files" in found.stderr
    everything = CliRunner().invoke(
        group, ["sql", "select count(*) as n from reading", "--format", "csv"]
    )
    assert everything.stdout.split() == ["n", str(len(world.archive.ledger))]
    stream = CliRunner().invoke(group, [*words[:-1], "arrow"]).stdout_bytes
    assert pa.ipc.open_stream(stream).read_all().to_pydict() == {"n": [mine]}
    shutil.rmtree(world.archive.folder)
    lost = CliRunner().invoke(group, words)
    assert "can't be read right now" in str(lost.exception)


def test_without_an_archive_all_is_as_ever(archive: Archive, serve: Serve) -> None:

    archive.fill(archive.make_tenant("a"))
    api = serve(ARCHIVE_URL="")
    tenant = api.make_tenant()
    answer = api.client.post(
        "/api/v1/sql", json={"sql": TOTAL}, headers=tenant.headers("scientist")
    )
    assert answer.json()["engine"] == "postgresql"
