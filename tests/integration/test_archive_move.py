"""A chunk moves to the lake whole, or not at all; what comes late follows."""

import asyncio
import contextlib
import threading
import time
from datetime import timedelta

import psycopg
import pytest
from fix_archive import DAY, Archive
from psycopg import AsyncConnection

from app.archive.book import Export, export_claim, export_get, owner_connection
from app.archive.export import drop, move, put, verify
from app.archive.lake import TABLE, Lake
from app.archive.piece import ArchiveError
from jobs.archive import lake_writer

AGE = timedelta(days=30)


def by_hand(archive: Archive, work: object) -> None:
    """Run `work(connection, lake, export)` on the next claimed chunk."""

    async def run() -> None:
        async with (
            owner_connection(archive.settings) as connection,
            lake_writer(archive.settings) as lake,
        ):
            export = await export_claim(connection, age=AGE)
            assert export is not None
            await work(connection, lake, export)  # type: ignore[operator]

    asyncio.run(run())


async def again(connection: AsyncConnection, export: Export) -> Export:
    return await export_get(connection, export_id=export.export_id)


def test_closed_chunks_move_and_rollups_stay(archive: Archive) -> None:
    sensors = archive.make_tenant("a") + archive.make_tenant("b")
    for day in range(3):
        archive.fill(sensors, day=day)
    done = archive.run()
    assert (done.moved, done.problems) == (3, [])
    assert archive.hot() == {}
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()
    assert archive.all("select count(*) from archive.closed_chunks('infinity')") == [(0,)]
    folders = {
        str(file.parent.relative_to(archive.folder)) for file in archive.folder.rglob("*.parquet")
    }
    assert folders == {
        f"main/reading/year=2026/month=3/tenant_id={number}" for number in archive.tenants.values()
    }


def test_recent_chunks_stay(archive: Archive) -> None:
    (sensor, _) = archive.make_tenant("a")
    archive.fill([sensor])
    ((now,),) = archive.all("select now()")
    recent = {(now - timedelta(days=29), sensor, 1): (7.0, 2)}
    archive.store(recent)
    assert archive.run().moved == 1
    assert archive.hot() == recent
    archive.assert_nothing_lost()


def test_files_are_sorted_by_sensor_metric_and_time(archive: Archive) -> None:
    archive.fill(archive.make_tenant("a", 5), every=2)
    archive.run()
    (file,) = archive.folder.rglob("*.parquet")
    lake = archive.lake()
    rows = lake.run(
        f"select sensor_id, metric_id, ts from read_parquet('{file}', file_row_number = true)"
        " order by file_row_number"
    )
    codecs = lake.run(f"select distinct compression from parquet_metadata('{file}')")
    lake.close()
    assert rows == sorted(rows)
    assert codecs == [("ZSTD",)]


def test_every_double_comes_back_bit_for_bit(archive: Archive) -> None:
    (sensor, _) = archive.make_tenant("a")
    values = [0.1 + 0.2, -0.0, 5e-12, 1e15, 123456.789012345, -7.25, 1 / 3, 2.0**40 + 0.5, 9.9e99]
    archive.store(
        {(DAY + timedelta(seconds=n), sensor, 1): (value, 2) for n, value in enumerate(values)}
    )
    assert archive.run().problems == []
    assert [
        value.hex() for (value, _) in (archive.cold()[key] for key in sorted(archive.cold()))
    ] == [value.hex() for value in values]


def test_late_readings_are_hot_at_once_and_cold_after_the_next_run(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    archive.fill(sensors, day=1)
    archive.run()
    at = DAY + timedelta(hours=5, minutes=3, seconds=1)
    late = {(at + timedelta(seconds=n), sensors[0], 1): (50.0 + n, 3) for n in range(120)}
    archive.store(late)
    assert archive.hot() == late
    archive.assert_nothing_lost()
    done = archive.run()
    assert (done.moved, done.problems) == (1, [])
    assert archive.hot() == {}
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()
    assert archive.all(
        "select is_late, row_count from archive.export order by export_id desc limit 1"
    ) == [(True, 120)]
    assert archive.all("select count(*) from archive.restored") == [(0,)]


def test_a_late_reading_whose_key_is_cold_changes_nothing(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    archive.run()
    same, other = sorted(archive.ledger)[:2]
    archive.store({same: archive.ledger[same], other: (-99.0, 2)})
    assert archive.run().problems == []
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()
    assert archive.all(
        "select row_count, duplicate_count, conflict_count from archive.export where is_late"
    ) == [(0, 2, 1)]


def refresh_everything(archive: Archive) -> None:
    """All that ever refreshes rollups, now."""
    jobs = archive.all(
        "select job_id from timescaledb_information.jobs"
        " where proc_name = 'policy_refresh_continuous_aggregate' order by job_id"
    )
    for (number,) in jobs:
        archive.all(f"call run_job({number})")
    for (step,) in archive.all("select telemetry.rollup_refresh_steps(false)"):
        archive.all(step)


def test_no_refresh_erases_the_rollups_of_a_cold_range(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    archive.fill(sensors, day=1)
    archive.run()
    refresh_everything(archive)
    archive.assert_rollups_are_whole()
    # a late reading asks for a refresh of the range it fell into
    known = dict(archive.ledger)
    archive.store({(DAY + timedelta(hours=3), sensors[0], 1): (50.0, 2)})
    whole, archive.ledger = archive.ledger, known
    refresh_everything(archive)
    archive.assert_rollups_are_whole()
    archive.ledger = whole
    archive.run()
    refresh_everything(archive)
    archive.assert_rollups_are_whole()


def test_late_readings_of_a_hot_day_before_the_border_reach_the_rollups(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors, day=5)
    archive.run()
    archive.fill(sensors, day=2)  # never archived, older than what is
    archive.run()
    archive.assert_rollups_are_whole()
    archive.assert_nothing_lost()


def test_a_reading_between_verification_and_drop_starts_the_export_over(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)

    async def work(connection: AsyncConnection, lake: Lake, export: Export) -> None:
        await put(connection, lake, export)
        assert await verify(connection, lake, export)
        archive.store({(DAY + timedelta(hours=3), sensors[0], 1): (50.0, 2)})
        await drop(connection, export)
        assert (await again(connection, export)).state == "pending"
        assert len(archive.hot()) == len(archive.ledger)
        done = await move(connection, lake, await again(connection, export))
        assert done.state == "dropped"

    by_hand(archive, work)
    assert archive.hot() == {}
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()


def test_a_reading_between_export_and_verification_starts_the_export_over(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)

    async def work(connection: AsyncConnection, lake: Lake, export: Export) -> None:
        await put(connection, lake, export)
        archive.store({(DAY + timedelta(hours=3), sensors[0], 1): (50.0, 2)})
        assert not await verify(connection, lake, export)

    by_hand(archive, work)
    assert archive.run().moved == 1
    archive.assert_nothing_lost()


@pytest.mark.parametrize(
    "harm",
    [
        f"delete from {TABLE} where sensor_id = $1 and metric_id = 2",
        f"update {TABLE} set value = value + 1e-9 where sensor_id = $1 and metric_id = 1",
        f"update {TABLE} set quality = 1 where sensor_id = $1",
        f"update {TABLE} set ts = ts + interval 1 second where sensor_id = $1",
    ],
)
def test_what_does_not_come_back_as_it_went_is_never_dropped(archive: Archive, harm: str) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors, every=60)

    async def work(connection: AsyncConnection, lake: Lake, export: Export) -> None:
        await put(connection, lake, export)
        assert lake.run(harm, sensors[:1]) != [(0,)]
        with contextlib.suppress(ArchiveError):
            assert not await verify(connection, lake, export)

    by_hand(archive, work)
    assert archive.states() == {"pending": 1}
    assert archive.hot() == archive.ledger
    assert archive.run().moved == 1
    archive.assert_nothing_lost()


def test_late_readings_that_keep_coming_are_neither_lost_nor_doubled(archive: Archive) -> None:
    sensors = archive.make_tenant("a", 4)
    for day in range(3):
        archive.fill(sensors, day=day)
    stop = threading.Event()
    sent: list[dict[tuple[object, int, int], tuple[float, int]]] = []

    def send() -> None:
        with psycopg.connect(archive.database.url("headwater_ingest"), autocommit=True) as line:
            number = 0
            while not stop.is_set():
                number += 1
                at = DAY + timedelta(days=number % 3, hours=1, milliseconds=number)
                try:
                    line.execute(
                        "insert into telemetry.reading (ts, sensor_id, metric_id, value)"
                        " values (%s, %s, 3, %s)",
                        (at, sensors[0], float(number)),
                    )
                except psycopg.Error as exc:  # the chunk went away: the writer sends again, once
                    errors.append(str(exc))
                    continue
                sent.append({(at, sensors[0], 3): (float(number), 2)})
                stop.wait(0.005)

    errors: list[str] = []
    thread = threading.Thread(target=send)
    thread.start()
    try:
        problems = [problem for _ in range(4) for problem in archive.run().problems]
    finally:
        stop.set()
        thread.join()
    assert len(sent) > 20
    for one in sent:
        archive.ledger |= one  # type: ignore[arg-type]
    archive.assert_nothing_lost()
    final = archive.run()
    assert final.problems == [], problems
    assert archive.hot() == {}
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()


def test_only_the_owner_moves_chunks(archive: Archive) -> None:
    archive.fill(archive.make_tenant("a"))
    for role in ("headwater_app", "headwater_analyst", "headwater_ingest"):
        with psycopg.connect(archive.database.url(role), autocommit=True) as line:
            for call in ("archive.claim_chunk(now())", "archive.drop_chunk(1)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    line.execute(f"select {call}")  # type: ignore[call-overload]
    code, text = archive.output("run", OWNER_DATABASE_URL=archive.settings.database_url)
    assert code == 1
    assert "OWNER_DATABASE_URL" in text
    assert archive.hot() == archive.ledger


def test_an_unverified_export_is_never_dropped(archive: Archive) -> None:
    archive.fill(archive.make_tenant("a"))

    async def work(connection: AsyncConnection, lake: Lake, export: Export) -> None:
        await put(connection, lake, export)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            await drop(connection, export)

    by_hand(archive, work)
    assert archive.hot() == archive.ledger


@pytest.mark.community
def test_a_refresh_that_runs_is_waited_for_on_every_node(archive: Archive) -> None:
    """It has taken its window along, and would erase what is dropped from the rollups."""
    archive.fill(archive.make_tenant("a"))
    url = list(archive.database.urls().values())[-1]
    name = "Refresh Continuous Aggregate Policy [1000]"
    outcome: list[object] = []
    run = threading.Thread(target=lambda: outcome.append(archive.run()))
    with psycopg.connect(url, application_name=name):
        run.start()
        deadline = time.monotonic() + 30
        while archive.states().get("verified") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.join(timeout=3)
        assert run.is_alive() and archive.states() == {"verified": 1}
    run.join(timeout=30)
    assert archive.states() == {"dropped": 1}, outcome
    archive.assert_rollups_are_whole()


@pytest.mark.community
def test_a_refresh_without_end_keeps_the_chunk(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.archive.export.REFRESH_WAIT_SECONDS", 1.0)
    archive.fill(archive.make_tenant("a"))
    url = list(archive.database.urls().values())[-1]
    with psycopg.connect(url, application_name="Refresh Continuous Aggregate Policy [1000]"):
        (problem,) = archive.run().problems
    assert "refreshed for 1 s" in problem
    assert archive.states() == {"verified": 1}
    assert archive.run().problems == []
    archive.assert_nothing_lost()
