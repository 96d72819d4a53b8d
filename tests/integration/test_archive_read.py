"""The API answers from wherever a reading is: exact at the border, nothing twice, nobody else's."""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import duckdb_extensions
import pyarrow.parquet as pq
import pytest
from fix_archive import DAY, Archive
from fix_server import Api, Tenant

from app.archive.read import disjoint


class World:
    """Days 0 to 3 of tenant a are cold, 4 to 5 hot; late readings and a doubled one on day 2."""

    def __init__(self, archive: Archive, serve: Callable[..., Api]) -> None:
        self.archive = archive
        self.sensors = archive.make_tenant("a")
        self.others = archive.make_tenant("b")
        for day in range(4):
            archive.fill(self.sensors + self.others, day=day)
        archive.run()
        for day in (4, 5):
            archive.fill(self.sensors + self.others, day=day)
        some = sorted(key for key in archive.ledger if key[1] == self.sensors[0])
        doubled = next(key for key in some if key[0] >= DAY + timedelta(days=2))
        late = {
            (DAY + timedelta(days=2, hours=h, seconds=1), self.sensors[0], 1): (50.0 + h, 3)
            for h in range(5)
        }
        archive.store({doubled: (-99.0, 2)} | late)
        self.api = serve(ARCHIVE_URL=archive.settings.archive_url)
        self.tenant = Tenant(self.api, archive.tenants["a"], "a")

    def wanted(self, begin: datetime, end: datetime, sensors: list[int]) -> list[tuple[Any, ...]]:
        """(time, uid, metric, value, quality) of the ledger, in order."""
        uid = dict(self.archive.all("select sensor_id, uid from telemetry.sensor"))
        code = dict(self.archive.all("select metric_id, code from telemetry.metric"))
        return [
            (key[0], uid[key[1]], code[key[2]], *self.archive.ledger[key])
            for key in sorted(self.archive.ledger)
            if begin <= key[0] < end and key[1] in sensors
        ]


@pytest.fixture
def world(archive: Archive, serve: Callable[..., Api]) -> Iterator[World]:
    yield World(archive, serve)


def pages(tenant: Tenant, **params: Any) -> list[tuple[Any, ...]]:
    """Every page of JSON."""
    found = []
    while True:
        answer = tenant.get("/api/v1/readings", resolution="raw", **params)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += [
            (datetime.fromisoformat(r["ts"]), r["sensor"], r["metric"], r["value"], r["quality"])
            for r in body["readings"]
        ]
        if body["next_cursor"] is None:
            return found
        params["cursor"] = body["next_cursor"]


def test_readings_come_from_hot_and_cold_as_one(world: World) -> None:
    begin, end = DAY, DAY + timedelta(days=6)
    wanted = world.wanted(begin, end, world.sensors)
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    assert pages(world.tenant, **span) == wanted
    for limit in (7, 288, 1000):
        assert pages(world.tenant, limit=limit, **span) == wanted
    # a page that ends inside, at and beyond the border
    border = DAY + timedelta(days=4)
    for lower, upper in ((-1, 1), (0, 1), (-1, 0), (-600, 600)):
        begin, end = border + timedelta(minutes=lower), border + timedelta(minutes=upper)
        assert pages(
            world.tenant, **{"from": begin.isoformat(), "to": end.isoformat(), "limit": 3}
        ) == world.wanted(begin, end, world.sensors)
    assert world.archive.run().problems == []  # late readings merged: the answer is the same
    assert pages(world.tenant, limit=500, **span) == wanted


def test_filters_and_streams_reach_into_the_archive(world: World) -> None:
    begin, end = DAY + timedelta(days=1), DAY + timedelta(days=5)
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    wanted = world.wanted(begin, end, world.sensors[:1])
    only = [row for row in wanted if row[2] == "ph"]
    assert pages(world.tenant, sensor="a-1", metric="ph", **span) == only
    answer = world.api.client.get(
        "/api/v1/readings",
        params={"resolution": "raw", "sensor": "a-1", "limit": 100_000, **span},
        headers=world.tenant.headers("scientist") | {"Accept": "text/csv"},
    )
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(r["sensor"], r["metric"], float(r["value"])) for r in rows] == [
        row[1:4] for row in wanted
    ]


def test_another_tenants_cold_readings_stay_theirs(world: World) -> None:
    span = {"from": DAY.isoformat(), "to": (DAY + timedelta(days=6)).isoformat()}
    found = pages(world.tenant, **span)
    assert {row[1] for row in found} == {"a-1", "a-2"}
    assert world.tenant.get("/api/v1/readings", sensor="b-1", **span).status_code == 404
    day = f"{DAY:%Y-%m-%d}"
    answer = world.tenant.get("/api/sensors/historical", sensor_id="b-1", date=day)
    assert answer.status_code == 404


@pytest.mark.parametrize("day", [0, 2, 4])
def test_a_day_in_every_format(world: World, day: int) -> None:
    begin = DAY + timedelta(days=day)
    wanted = world.wanted(begin, begin + timedelta(days=1), world.sensors[:1])
    assert wanted

    def ask(accept: str) -> Any:
        answer = world.api.client.get(
            "/api/sensors/historical",
            params={"sensor_id": "a-1", "date": f"{begin:%Y-%m-%d}"},
            headers=world.tenant.headers("scientist") | {"Accept": accept},
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(accept)
        return answer

    body = ask("application/json").json()
    assert (body["sensor_id"], body["date"]) == ("a-1", f"{begin:%Y-%m-%d}")
    assert [
        (datetime.fromisoformat(r["timestamp"]), r["metric"], r["value"], r["quality"])
        for r in body["readings"]
    ] == [(row[0], *row[2:]) for row in wanted]
    rows = list(csv.DictReader(io.StringIO(ask("text/csv").text)))
    assert [(r["metric"], float(r["value"]), int(r["quality"])) for r in rows] == [
        row[2:] for row in wanted
    ]
    table = pq.read_table(io.BytesIO(ask("application/vnd.apache.parquet").content)).to_pylist()
    assert [
        (r["timestamp"].astimezone(UTC), r["sensor_id"], r["metric"], r["value"], r["quality"])
        for r in table
    ] == wanted


def test_a_day_is_refused_with_a_reason(world: World) -> None:
    for date in ("2026-02-30", "20260301", "9999-12-31", "yesterday", ""):
        answer = world.tenant.get("/api/sensors/historical", sensor_id="a-1", date=date)
        assert answer.status_code == 400, date
        assert "date" in answer.json()["detail"]
    answer = world.tenant.get("/api/sensors/historical", sensor_id="a-1", date="2019-01-01")
    assert answer.json()["readings"] == []


def test_an_archive_that_can_not_be_read_is_a_503_and_hot_readings_go_on(
    archive: Archive, serve: Callable[..., Api]
) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    archive.run()
    ((now,),) = archive.all("select now()")
    archive.store({(now - timedelta(hours=1), sensors[0], 1): (7.0, 2)})
    api = serve(ARCHIVE_URL=archive.settings.archive_url)
    tenant = Tenant(api, archive.tenants["a"], "a")
    hidden = archive.folder.with_name("hidden")
    archive.folder.rename(hidden)
    answer = tenant.get("/api/sensors/historical", sensor_id="a-1", date=f"{DAY:%Y-%m-%d}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert len(tenant.get("/api/v1/readings", resolution="raw").json()["readings"]) == 1
    hidden.rename(archive.folder)
    answer = tenant.get("/api/sensors/historical", sensor_id="a-1", date=f"{DAY:%Y-%m-%d}")
    assert len(answer.json()["readings"]) == 288


def test_a_notebook_attaches_the_lake_as_the_page_says(archive: Archive) -> None:
    """docs/cold-tier.md, with the extensions from their packages instead of the network."""
    archive.fill(archive.make_tenant("a"))
    archive.run()
    server = archive.database.server
    as_analyst = (
        f"host=127.0.0.1 port={server.port} dbname={archive.database.name}"
        f" user=headwater_analyst password={server.password}"
    )
    con = duckdb.connect()
    for name in ("ducklake", "postgres"):
        try:
            con.load_extension(name)
        except duckdb.Error:
            duckdb_extensions.import_extension(name, con=con)
            con.load_extension(name)
    con.execute(
        f"attach 'ducklake:postgres:{as_analyst}' as lake (metadata_schema 'lake', read_only)"
    )
    con.execute(f"attach '{as_analyst}' as pg (type postgres, read_only)")
    rows = con.sql(
        "select r.* from lake.reading as r"
        " where r.export_id in (select export_id from pg.archive.cold_range)"
        " and r.ts >= timestamptz '2026-03-01 00:00:00+00'"
    ).fetchall()
    con.close()
    assert len(rows) == len(archive.ledger)
    number = archive.tenants["a"]
    folder = archive.folder / f"main/reading/year=2026/month=3/tenant_id={number}"
    # what pandas.read_parquet() does
    assert pq.read_table(folder).num_rows == len(archive.ledger)


def test_ranges_that_overlap_are_one() -> None:
    day = timedelta(days=1)
    found = disjoint(
        [
            (1, DAY, DAY + day),
            (2, DAY, DAY + day),
            (3, DAY + day, DAY + 2 * day),
            (4, DAY + 0.5 * day, DAY + day),
        ]
    )
    assert found == [(DAY, DAY + day), (DAY + day, DAY + 2 * day)]
