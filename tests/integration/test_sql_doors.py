"""One contract at every door: HTTP, the command line and psql, of a tenant or the platform."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from fix_cold import BORDER, NOT_PLANNED, ColdWorld, alike, cold_world, in_order
from fix_database import Server
from fix_relay import Relay, login_of, psql, relaying
from fix_server import serving
from psycopg.adapt import Transformer
from psycopg.pq import Format

from app.cli import group
from app.local.credentials import free_port
from app.query.answer import ENCODER

MOST = "100000"
HOT, COLD, BOTH = (
    f"ts >= '{BORDER:%Y-%m-%d}' and ts < '{BORDER:%Y-%m-%d} 06:00'",
    f"ts < '{BORDER:%Y-%m-%d}'",
    "ts < now()",
)
ROWS = "select ts, sensor_id, metric_id, value, quality from reading where {where} order by 1, 2, 3"
SUMS = (
    "select count(*), min(ts), max(ts), sum(value), avg(quality), count(distinct sensor_id)"
    " from reading where {where}"
)
NAMED = (
    "select s.sensor, m.metric, count(*) filter (where quality = 2), round(avg(value)::numeric, 3)"
    " from reading join sensor as s using (sensor_id) join metric as m using (metric_id)"
    " where {where} group by 1, 2 order by 1, 2"
)
ASKED = [text.format(where=where) for text in (ROWS, SUMS, NAMED) for where in (HOT, COLD, BOTH)]
ASKED += [
    "select time_bucket('6 hours', ts) as slot, first(value, ts), last(value, ts) from reading"
    " group by 1 order by 1",
    "select r.sensor_id, d.bucket, d.n, count(*) from reading as r join reading_1d as d"
    " on d.sensor_id = r.sensor_id and d.metric_id = r.metric_id"
    " and d.bucket = date_trunc('day', r.ts) group by 1, 2, 3, d.metric_id order by 1, 2, 3",
    "select sensor_id, ts, lag(value) over (partition by sensor_id order by ts), value::text,"
    " null::int from reading where metric_id = 1 order by 1, 2 limit 500",
    "select ts, value from reading order by ts desc limit 10",
    "select sensor, metric, ts, value from latest order by 1, 2",
    "select bucket, sensor_id, n, value_min, value_max from reading_1h order by 1, 2, metric_id"
    " limit 200",
]
REFUSED = [
    "select histogram(value, 0, 10, 5) from reading",
    "select to_char(ts, 'Day') from reading",
    "select pg_sleep(1) from reading",
]


class House:
    """An archived world and its doors. Each answers rows as JSON, for a tenant or for the platform."""

    def __init__(self, world: ColdWorld, relay: Relay) -> None:
        self.world = world
        database = world.archive.database
        self.logins = {
            "a": relay.url(login_of(database, "a")),
            None: relay.url(database.url("headwater_analyst")),
        }

    def http(self, text: str, tenant: str | None) -> dict[str, Any]:
        """The whole answer of POST /api/v1/sql."""
        role = "scientist" if tenant else "super_admin"
        found: dict[str, Any] = self.world.ask(text, role=role, limit=int(MOST)).json()
        return found

    def command(self, text: str, tenant: str | None) -> Any:
        """`headwater sql`: the whole answer, or the exception."""
        words = ["sql", text, "--format", "json", "--limit", MOST]
        words += ["--tenant", tenant] if tenant else []
        found = CliRunner().invoke(group, words, env=self.world.environment)
        return json.loads(found.stdout) if found.exception is None else found.exception

    def psql(self, text: str, tenant: str | None, types: list[str]) -> list[list[Any]]:
        """psql's texts, read as values of these types."""
        said = psql(self.logins[tenant], "--csv", "-P", "null=(none)", "-c", text)
        assert said.returncode == 0, (text, said.stderr)
        reader = Transformer()
        load = [
            reader.get_loader(psycopg.adapters.types[name].oid, Format.TEXT).load for name in types
        ]
        rows = [
            [None if v == "(none)" else one(v.encode()) for one, v in zip(load, row, strict=True)]
            for row in csv.reader(io.StringIO(said.stdout))
        ]
        found: list[list[Any]] = json.loads(ENCODER.encode(rows))
        return found


@pytest.fixture(scope="module")
def house(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("doors")
    with cold_world(pg_server, pg_template, folder) as world:
        world.archive_now()
        with (
            serving(world.environment, world.archive.database.url()) as api,
            relaying(world.environment, free_port(), folder / "relay.log") as relay,
        ):
            world.serve(api)
            yield House(world, relay)


@pytest.mark.parametrize("tenant", ["a", None])
@pytest.mark.parametrize("text", ASKED)
def test_every_door_tells_the_same_rows(house: House, text: str, tenant: str | None) -> None:
    wanted = house.http(text, tenant)
    if wanted.get("sqlstate") == NOT_PLANNED:
        pytest.skip(f"Citus does not plan it: {wanted['reason']}")
    assert wanted["rows"], wanted
    found = house.command(text, tenant)
    assert (found["columns"], found["engine"]) == (wanted["columns"], wanted["engine"])
    types = [column["type"] for column in wanted["columns"]]
    rows = house.psql(text, tenant, types)
    for name, other in (("headwater sql", found["rows"]), ("psql", rows)):
        mine, theirs = in_order(text, wanted["rows"]), in_order(text, other)
        assert len(mine) == len(theirs), name
        assert all(map(alike, mine, theirs)), (name, mine, theirs)


@pytest.mark.parametrize("text", REFUSED)
def test_every_door_refuses_with_the_same_words(house: House, text: str) -> None:
    for tenant in ("a", None):
        said = house.http(text, tenant)["detail"]
        assert said in str(house.command(text, tenant))
        assert said in psql(house.logins[tenant], "-c", text).stderr
