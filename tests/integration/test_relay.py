"""psql and psycopg by way of the relay: the same answers as if nothing had ever left the database."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fix_cold import ASKED, BORDER, NOT_PLANNED, ColdWorld, alike, cold_world, in_order, is_told
from fix_database import Server
from fix_relay import Relay, login_of, psql, relaying, rows

from app.local.credentials import free_port
from app.query.answer import ENCODER

TYPES = """
select r.ts, ts at time zone 'UTC' as utc, ts::date as day, value, - value * 1e17, value::real as short,
    value::numeric(12, 4), quality, sensor_id, value > 10, null::text, 'a''b\\c,{"' || metric_id,
    ts - timestamptz '2026-03-02 12:00+00', (ts at time zone 'UTC')::time, 'NaN'::float8,
    array_agg(value) over (order by r.ts, sensor_id, metric_id rows 1 preceding), 1e15::float8,
    1e-5::float8, '-Infinity'::float8
from reading as r where r.ts < '2026-03-03' order by r.ts, sensor_id, metric_id limit 300
"""

REFUSED = "select histogram(value, 0, 1, 2) from reading"


class Door:
    """A world whose readings were asked for before they were archived."""

    def __init__(self, world: ColdWorld, relay: Relay, logins: dict[str, str]) -> None:
        self.world = world
        self.relay = relay
        self.direct = logins
        self.url = relay.url(logins["a"])
        self.before: dict[str, Any] = {}

    def asked(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return rows(self.url, statement, *values)


def answer(connection: psycopg.Connection[Any], text: str) -> Any:
    """Rows as JSON has them, or the SQLSTATE."""
    try:
        found = connection.execute(text.encode()).fetchall()
    except psycopg.errors.FeatureNotSupported as exc:
        return exc.sqlstate
    return json.loads(ENCODER.encode(found))


@pytest.fixture(scope="module")
def door(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("relay")
    with cold_world(pg_server, pg_template, folder) as world:
        database = world.archive.database
        logins = {slug: login_of(database, slug) for slug in ("a", "b")}
        logins["analyst"] = database.url("headwater_analyst")
        with relaying(world.environment, free_port(), folder / "relay.log") as relay:
            made = Door(world, relay, logins)
            with psycopg.connect(logins["a"], autocommit=True) as connection:
                made.before = {text: answer(connection, text) for text in ASKED}
            made.before[TYPES] = psql(logins["a"], "-c", TYPES).stdout
            world.archive_now()
            yield made


@pytest.mark.parametrize("text", ASKED)
def test_it_is_as_if_nothing_had_left(door: Door, text: str) -> None:
    wanted = door.before[text]
    if wanted == NOT_PLANNED:
        pytest.skip("Citus does not plan it")
    with psycopg.connect(door.url, autocommit=True) as connection:
        found = answer(connection, text.replace("analytics.", "tenant."))
    assert len(found) == len(wanted)
    if is_told(text):
        for mine, theirs in zip(in_order(text, found), in_order(text, wanted), strict=True):
            assert alike(mine, theirs)


def test_values_are_written_as_the_server_writes_them(door: Door) -> None:
    found = psql(door.url, "-c", TYPES)
    assert found.stdout.splitlines() == door.before[TYPES].splitlines()
    assert len(found.stdout.splitlines()) == 300, found.stderr


@pytest.mark.parametrize("is_binary", [False, True])
def test_binary_values_are_the_same(door: Door, is_binary: bool) -> None:
    text = TYPES.replace("'NaN'::float8", "1.5::float8").replace("::real", "")
    with psycopg.connect(door.url, autocommit=True) as connection:
        plain = connection.execute(text.encode()).fetchall()
        with connection.cursor(binary=is_binary) as cursor:
            cursor.execute(text.encode())
            assert cursor.fetchall() == plain


@pytest.mark.parametrize("is_prepared", [False, True])
def test_parameters_mean_what_they_mean(door: Door, is_prepared: bool) -> None:
    (mine, _) = door.world.mine
    first = datetime(2026, 3, 1, 12, tzinfo=UTC)
    text = (
        "select count(*), min(ts), max(sensor_id) from reading where ts >= %s and ts < %s::timestamptz"
        " and sensor_id = any(%s) and quality = %s and (%s::text is null or value > %s) and %s"
    )
    values = (first, "2026-03-02", [mine], 2, None, 1.5, True)
    with psycopg.connect(door.url, autocommit=True) as connection:
        found = [connection.execute(text, values, prepare=is_prepared).fetchall() for _ in range(3)]
    wanted = [
        key[0]
        for key, (_, quality) in door.world.archive.ledger.items()
        if key[1] == mine and first <= key[0] < datetime(2026, 3, 2, tzinfo=UTC) and quality == 2
    ]
    assert found == [[(len(wanted), min(wanted), mine)]] * 3
    newest = "select ts from reading order by ts desc limit %s"
    assert len(door.asked(newest, 3)) == 3


@pytest.mark.parametrize("where", ["ts < now()", f"ts >= E'{BORDER:%Y-%m-%d}'"])
def test_texts_may_have_escapes(door: Door, where: str) -> None:
    """As psycopg writes them where it puts values into the text itself."""
    plain = where.replace("E'", "'")
    ((wanted,),) = door.asked(f"select count(*) from reading where {plain}")
    with psycopg.connect(door.url, autocommit=True, cursor_factory=psycopg.ClientCursor) as line:
        text = f"select count(*), %s, $$it's$$ from reading where {where}"
        found = line.execute(text.encode(), ["a\\b'c\n"]).fetchall()
    assert found == [(wanted, "a\\b'c\n", "it's")] and wanted


def test_what_keeps_to_the_database_passes_untouched(door: Door) -> None:
    hot = f"where ts >= '{BORDER:%Y-%m-%d}'"
    # nothing that the guard would take
    for text in (
        f"select pg_typeof(value) from tenant.reading {hot} limit 1",
        f"select current_setting('timezone'), count(*) from reading {hot}",
        f"copy (select ts from reading {hot} limit 1) to stdout",
        "select 'reading' as name, reading_1d.n from reading_1d limit 1",
        "explain select * from reading",
        "\\d reading",
        "begin; declare c cursor for select 1; fetch c; commit",
    ):
        found = psql(door.url, "-c", text)
        assert found.returncode == 0 and found.stdout, (text, found.stderr)
    refused = psql(door.url, "-c", "select pg_typeof(value) from reading limit 1")
    assert "pg_typeof is not among those allowed" in refused.stderr
    assert f"add ts >= '{BORDER:%Y-%m-%d}T00:00:00Z'" in refused.stderr


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        ("selct * from reading", "42601", 'syntax error at or near "selct"'),
        ("select nothing from reading", "42703", 'column "nothing" does not exist'),
        ("select * from analytics.reading", "42501", "permission denied"),
        ("select * from reading; select 2", "0A000", "one statement is taken at a time"),
        ("select histogram(value, 0, 1, 2) from reading", "0A000", "histogram()"),
        ("select value / (quality - quality) from reading", "0A000", "division by zero"),
        ("copy (select * from reading) to stdout", "0A000", "COPY reads the database only"),
        ("declare c cursor with hold for select * from reading", "0A000", "a cursor reads"),
        ("create table x as select * from reading", "0A000", "only SELECT is taken"),
        ("do $$ begin perform 1 from reading; end $$", "0A000", "not looked into"),
        ("select query_to_xml('select * from reading', true, true, '')", "0A000", "not looked"),
        ('select * from U&"r\\0065ading"', "0A000", "prefix U&"),
    ],
)
def test_what_can_not_be_answered_says_so(door: Door, text: str, state: str, said: str) -> None:
    with psycopg.connect(door.url, autocommit=True) as connection:
        for _ in range(2):  # and the session goes on
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(text.encode())
            assert (caught.value.sqlstate, said in str(caught.value)) == (state, True), caught.value
        assert connection.execute("select 1").fetchall() == [(1,)]


def test_transactions_are_the_servers(door: Door) -> None:
    count = "select count(*) from reading"
    with psycopg.connect(door.url) as connection:
        whole = connection.execute(count).fetchall()
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute(REFUSED)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute(count)
        connection.rollback()
        assert connection.execute(count).fetchall() == whole
        connection.commit()
        connection.execute("set transaction isolation level repeatable read")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="read committed"):
            connection.execute(count)
    steps = ("begin", count, REFUSED, count, "rollback", count)
    done = psql(door.url, text=";\n".join((*steps, "")))
    assert done.stdout.split() == ["BEGIN", str(whole[0][0]), "ROLLBACK", str(whole[0][0])]
    assert "current transaction is aborted" in done.stderr


@pytest.mark.parametrize("setting", ["timezone = 'Asia/Tokyo'", "datestyle = 'SQL, DMY'"])
def test_a_session_of_another_kind_is_told_how_to_ask(door: Door, setting: str) -> None:
    with psycopg.connect(door.url, autocommit=True) as connection:
        connection.execute(f"set {setting}".encode())
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="are told with"):
            connection.execute("select count(*) from reading")
    # the border is where it is for the session: it begins nine hours earlier in Tokyo
    with psycopg.connect(door.url, autocommit=True) as connection:
        day = f"select count(*) from reading where ts >= '{BORDER:%Y-%m-%d}'"
        connection.execute("set timezone = 'Europe/London'")
        assert connection.execute(day.encode()).fetchall()
        connection.execute("set timezone = 'Asia/Tokyo'")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute(day.encode())


def test_whose_rows_they_are_does_not_change(door: Door) -> None:
    count = "select count(*), count(distinct sensor_id) from reading"
    whole = door.asked(count)
    both = rows(door.relay.url(door.direct["analyst"]), count)
    assert both[0][0] == len(door.world.archive.ledger) and both[0][1] == 4
    assert whole[0][1] == 2 and rows(door.relay.url(door.direct["b"]), count)[0][1] == 2
    with psycopg.connect(door.url, autocommit=True) as connection:
        for attempt in (
            "set role headwater_sql",
            "set headwater.pass = 'all.x'",
            "reset all",
            "set search_path = tenant",
        ):
            connection.execute(attempt.encode())
            assert connection.execute(count).fetchall() == whole
        other = door.world.others[0]
        assert (
            connection.execute("select * from reading where sensor_id = %s", [other]).fetchall()
            == []
        )


def test_who_has_no_door_is_turned_away(door: Door) -> None:
    for role in ("postgres", "headwater_app", "headwater_sql"):
        found = psql(door.relay.url(door.world.archive.database.url(role)), "-c", "select 1")
        assert "is no login of a tenant" in found.stderr
    wrong = psql(door.relay.url(door.direct["a"], password="wrong"), "-c", "select 1")
    assert "password authentication failed" in wrong.stderr


def test_pipelines_keep_their_order(door: Door) -> None:
    with psycopg.connect(door.url, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [
                connection.execute(text)
                for text in (
                    "select 1",
                    "select count(*) from reading",
                    "select count(*) from reading where ts > now() - interval '1 hour'",
                    "select min(ts) from reading",
                    "select 5",
                )
            ]
            found = [cursor.fetchall()[0][0] for cursor in cursors]
        whole = len([key for key in door.world.archive.ledger if key[1] in door.world.mine])
        assert (found[0], found[1], found[4]) == (1, whole, 5)
        assert found[3] == min(key[0] for key in door.world.archive.ledger)
        with pytest.raises(psycopg.errors.FeatureNotSupported), connection.pipeline():
            connection.execute(REFUSED)
            connection.execute("select 1")
        assert connection.execute("select count(*) from reading").fetchall() == [(whole,)]


def test_a_day_with_no_reading_is_empty(door: Door) -> None:
    text = "select ts, value from reading where ts > '2026-03-01' and value > 1e9"
    with psycopg.connect(door.url, autocommit=True) as connection:
        cursor = connection.execute(text)
        assert [column.name for column in cursor.description or ()] == ["ts", "value"]
        assert cursor.fetchall() == [] and cursor.statusmessage == "SELECT 0"
    assert timedelta(0) == door.asked("select max(ts) - max(ts) from reading")[0][0]
