"""The archive on a real S3 store, and everything that goes wrong with one."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import psycopg
import pytest
from fix_archive import DAY, Archive, with_settings
from fix_s3 import KEY, SECRET, Road, Store
from fix_server import Api, Tenant

from app.errors import CommandError

PREFIXES = itertools.count(1)


@pytest.fixture
def lake(archive: Archive, s3: Store) -> Archive:
    """An archive in the bucket, under a prefix of its own, with a day of readings."""
    with_settings(
        archive,
        archive_url=f"s3://{s3.bucket}/p{next(PREFIXES)}",
        archive_s3_endpoint=s3.endpoint,
        archive_s3_key=KEY,
        archive_s3_secret=SECRET,
    )
    archive.fill(archive.make_tenant("a"))
    return archive


@pytest.fixture
def road(lake: Archive, s3: Store) -> Iterator[Road]:
    """The way to the store, for better or worse."""
    made = Road(s3.port)
    with_settings(lake, archive_s3_endpoint=made.endpoint)
    yield made
    made.close()


def s3_settings(lake: Archive) -> dict[str, str]:
    names = ("archive_url", "archive_s3_endpoint", "archive_s3_key", "archive_s3_secret")
    return {name.upper(): getattr(lake.settings, name) for name in names}


def test_readings_move_are_read_and_come_back(
    lake: Archive, s3: Store, serve: Callable[..., Api]
) -> None:
    assert lake.run().problems == []
    lake.assert_nothing_lost()
    assert lake.hot() == {}
    prefix = lake.settings.archive_url.rsplit("/", 1)[1]
    number = lake.tenants["a"]
    (name,) = s3.files(prefix)
    assert name.startswith(f"{prefix}/main/reading/year=2026/month=3/tenant_id={number}/")

    tenant = Tenant(serve(**s3_settings(lake)), number, "a")
    found = tenant.get("/api/sensors/historical", sensor_id="a-1", date=f"{DAY:%Y-%m-%d}").json()
    assert len(found["readings"]) == len(lake.ledger) / 2

    span = ("--from", "2026-03-01T00:00Z", "--to", "2026-03-02T00:00Z")
    assert "1 ranges" in lake.output("restore", *span, **s3_settings(lake))[1]
    assert lake.hot() == lake.ledger
    assert lake.output("release", *span, **s3_settings(lake))[0] == 0
    assert lake.run().moved == 1
    assert lake.hot() == {}
    lake.assert_nothing_lost()
    code, text = lake.output("verify", **s3_settings(lake))
    assert (code, text) == (0, "2 exports are what they were\n")


def test_peoples_sql_reads_its_tenants_objects_alone(
    lake: Archive, serve: Callable[..., Api]
) -> None:
    others = lake.make_tenant("b")
    lake.fill(others)
    assert lake.run().problems == []
    mine = [key for key in lake.ledger if key[1] not in others]

    def ask(**changes: str) -> httpx.Response:
        tenant = Tenant(serve(**s3_settings(lake) | changes), lake.tenants["a"], "a")
        headers = tenant.headers("scientist")
        body = {"sql": "select count(*) from reading"}
        return tenant.api.client.post("/api/v1/sql", json=body, headers=headers)

    answer = ask().json()
    assert answer["rows"] == [[len(mine)]]
    assert (answer["engine"], answer["scanned"]["cold_files"]) == ("duckdb", 1)
    for changes in (
        {"ARCHIVE_S3_SECRET": "not-the-secret"},
        {"ARCHIVE_S3_ENDPOINT": "http://127.0.0.1:1"},
    ):
        away = ask(**changes)
        assert away.status_code == 503
        assert "add ts >= " in away.json()["detail"] and SECRET not in away.text


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"archive_s3_secret": "not-the-secret"}, "ARCHIVE_S3_SECRET"),
        ({"archive_s3_key": "nobody"}, "ARCHIVE_S3_KEY"),
        ({"archive_url": "s3://not-there/x"}, "no bucket 'not-there'"),
        ({"archive_s3_endpoint": "http://127.0.0.1:1"}, "ARCHIVE_S3_ENDPOINT"),
    ],
)
def test_a_store_that_can_not_be_used_is_named_and_nothing_happens(
    lake: Archive, wrong: dict[str, str], hint: str
) -> None:
    with_settings(lake, **wrong)
    with pytest.raises(CommandError) as caught:
        lake.run()
    assert hint in str(caught.value)
    assert SECRET not in str(caught.value)
    assert lake.hot() == lake.ledger
    assert lake.states() == {}
    code, text = lake.output("run", **s3_settings(lake))
    assert code == 1
    assert len(text.splitlines()) == 1, "one line, no trace"


def test_a_connection_cut_in_the_middle_of_an_upload_costs_nothing(
    lake: Archive, road: Road
) -> None:
    road.cut_after = 3000
    done = lake.run()
    assert road.cuts > 0
    assert (done.moved, len(done.problems)) == (0, 1)
    assert SECRET not in done.problems[0]
    assert lake.states() == {"pending": 1}
    assert lake.hot() == lake.ledger
    assert lake.all("select problem is not null from archive.export") == [(True,)]
    road.cut_after = None
    assert lake.run().moved == 1
    lake.assert_nothing_lost()
    assert lake.hot() == {}


def test_a_slow_store_holds_nobody_up(lake: Archive, road: Road) -> None:
    sensors = [row[0] for row in lake.all("select sensor_id from telemetry.sensor")]
    lake.fill(sensors, day=1)
    road.delay = 0.1
    longest, written = 0.0, 0
    ((begun,),) = lake.all("select now()")
    stop = threading.Event()

    def write() -> None:
        nonlocal longest, written
        with psycopg.connect(lake.database.url("headwater_ingest"), autocommit=True) as line:
            for number in itertools.count():
                if stop.is_set():
                    return
                begin = time.monotonic()
                at = begun + timedelta(microseconds=number)
                line.execute(
                    "insert into telemetry.reading (ts, sensor_id, metric_id, value)"
                    " values (%s, %s, 1, 7)",
                    (at, sensors[0]),
                )
                written = number
                longest = max(longest, time.monotonic() - begin)
                time.sleep(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    begin = time.monotonic()
    try:
        done = lake.run()
    finally:
        stop.set()
        thread.join()
    assert (done.moved, done.problems) == (2, [])
    assert written > 50
    assert longest < 2 < time.monotonic() - begin, "the writer waited for the store"


def test_what_was_removed_or_altered_behind_our_back_is_found(lake: Archive, s3: Store) -> None:
    sensors = [row[0] for row in lake.all("select sensor_id from telemetry.sensor")]
    for day in (1, 2):
        lake.fill(sensors, day=day)
    lake.run()
    prefix = lake.settings.archive_url.rsplit("/", 1)[1]
    removed, altered, _ = sorted(s3.files(prefix))

    s3.client.remove_object(bucket_name=s3.bucket, object_name=removed)
    code, text = lake.output("verify", "--quick", **s3_settings(lake))
    assert code == 1
    assert f"{removed} is missing" in text
    assert "1 of 3 exports" in text

    answer = s3.client.get_object(bucket_name=s3.bucket, object_name=altered)
    data = bytearray(answer.read())
    answer.close()
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0x55 for byte in data[middle : middle + 8])
    file = s3.folder / "altered"
    file.write_bytes(data)
    s3.client.fput_object(bucket_name=s3.bucket, object_name=altered, file_path=str(file))
    assert "1 of 3" in lake.output("verify", "--quick", **s3_settings(lake))[1], (
        "sizes are the same"
    )
    code, text = lake.output("verify", **s3_settings(lake))
    assert code == 1
    assert "2 of 3 exports" in text
    assert "problem" in lake.output("status", **s3_settings(lake))[1]

    file.write_bytes(bytes(data[:-100]))
    s3.client.fput_object(bucket_name=s3.bucket, object_name=altered, file_path=str(file))
    assert "bytes, not" in lake.output("verify", "--quick", **s3_settings(lake))[1]
