"""Restore and release; how long a tenant's cold readings stay; the legal hold."""

from datetime import timedelta

import pytest
from fix_archive import DAY, Archive, with_settings

SPAN = ("--from", "2026-03-02T10:00Z", "--to", "2026-03-02T11:00Z")


def test_a_restored_range_is_hot_until_it_is_released(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    for day in range(3):
        archive.fill(sensors, day=day)
    archive.run()
    code, text = archive.output("restore", *SPAN)
    assert (code, text) == (0, "1 ranges with 576 readings are hot again; `release` lets them go\n")
    whole_day = {key for key in archive.ledger if key[0].day == 2}
    assert set(archive.hot()) == whole_day
    archive.assert_nothing_lost()
    assert archive.output("restore", *SPAN)[1].startswith(
        "all that is archived of that time is hot"
    )
    assert "restored    1 ranges of 2026-03-0" in archive.output("status")[1]
    assert archive.run().moved == 0, "it stays"
    assert set(archive.hot()) == whole_day
    # a late reading of a restored day is just one more hot reading
    archive.store({(DAY + timedelta(days=1, hours=3), sensors[0], 1): (50.0, 2)})
    assert archive.output("release", *SPAN) == (0, "1 ranges go with the next run\n")
    assert archive.run().problems == []
    assert archive.hot() == {}
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()


def test_restored_readings_raise_no_alert_and_change_nothing_newest(archive: Archive) -> None:
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    archive.all("select telemetry.repair_latest()")
    newest = archive.all("select * from telemetry.latest_reading order by 1, 2")
    archive.all(
        "insert into alert.threshold (tenant_id, metric_id, severity, side, limit_value)"
        " values (%s, 1, 'warning', 'high', 5)",
        archive.tenants["a"],
    )
    archive.all("select alert.sweep(%s, %s)", DAY, DAY + timedelta(days=1))
    episodes = archive.all("select * from alert.episode order by 1")
    assert episodes
    archive.run()
    archive.all("select alert.sweep(now() - interval '15 minutes', now())")
    archive.output("restore", "--from", "2026-03-01T00:00Z", "--to", "2026-03-02T00:00Z")
    archive.all("select alert.sweep(now() - interval '15 minutes', now())")
    archive.all("select telemetry.repair_latest()")
    assert archive.all("select * from alert.episode order by 1") == episodes
    assert archive.all("select * from telemetry.latest_reading order by 1, 2") == newest


def test_a_tenants_time_ends_for_it_alone(archive: Archive) -> None:
    mine, theirs = archive.make_tenant("a"), archive.make_tenant("b")
    for day in range(2):
        archive.fill(mine + theirs, day=day)
    archive.run()
    ((days,),) = archive.all("select (now()::date - %s::date)::integer - 1", DAY.date())
    assert archive.output("keep", "a", "--days", str(days))[0] == 0
    done = archive.run()
    assert done.expired == 576
    gone = {key for key in archive.ledger if key[1] in mine and key[0].day == 1}
    archive.assert_rollups_are_whole()
    ledger = archive.ledger
    archive.ledger = {key: rest for key, rest in ledger.items() if key not in gone}
    archive.assert_nothing_lost()
    files = list(archive.folder.rglob(f"tenant_id={archive.tenants['a']}/*.parquet"))
    assert len(files) == 1, "the file went, too"
    assert archive.output("verify") == (0, "2 exports are what they were\n")
    # a late reading of the time that is over must not cost the rollups their history
    late = (DAY + timedelta(hours=3), theirs[0], 1)
    archive.store({late: (50.0, 2)})
    assert archive.run().problems == []
    archive.assert_nothing_lost()
    archive.ledger = ledger
    archive.assert_rollups_are_whole()


def test_a_legal_hold_overrides_everything(archive: Archive) -> None:
    archive.fill(archive.make_tenant("a"))
    archive.run()
    assert archive.output("keep", "a", "--days", "1")[0] == 0
    assert archive.output("hold", "a", "--reason", "case 7/2026")[0] == 0
    assert archive.run().expired == 0
    archive.assert_nothing_lost()
    assert "held: case 7/2026" in archive.output("status")[1]
    assert archive.output("hold", "a")[0] == 0
    assert archive.run().expired == len(archive.ledger)
    assert archive.cold() == {}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("keep", "nobody", "--days", "3"), "no tenant 'nobody'"),
        (("restore", "--from", "yesterday", "--to", "2026-03-02T00:00Z"), "--from"),
        (("restore", "--from", "2026-03-02T00:00Z", "--to", "2026-03-01T00:00Z"), "before --to"),
        (("restore", "--from", "2026-03-01T00:00Z", "--to", "2026-03-02T00:00Z"), "is archived"),
        (("release", "--from", "2026-03-01T00:00Z", "--to", "2026-03-02T00:00Z"), "was restored"),
    ],
)
def test_a_slip_is_one_line(archive: Archive, arguments: tuple[str, ...], hint: str) -> None:
    code, text = archive.output(*arguments)
    assert code == 1
    assert hint in text
    assert len(text.splitlines()) == 1


def test_settings_that_can_not_be_right_are_refused(archive: Archive) -> None:
    for changes, hint in (
        ({"ARCHIVE_AFTER_DAYS": "3"}, "ARCHIVE_AFTER_DAYS"),
        ({"ARCHIVE_URL": "ftp://x/y"}, "s3://bucket/prefix"),
        ({"ARCHIVE_URL": "file://host/x"}, "file:"),
        ({"ARCHIVE_URL": "s3://b/p", "ARCHIVE_S3_ENDPOINT": "minio:9000"}, "ARCHIVE_S3_ENDPOINT"),
    ):
        code, text = archive.output("run", **changes)
        assert code == 1, text
        assert hint in text


def test_another_place_than_the_lakes_is_refused(archive: Archive) -> None:
    archive.fill(archive.make_tenant("a"))
    archive.run()
    code, text = archive.output("verify", ARCHIVE_URL=f"file:{archive.folder}-other")
    assert code == 1
    assert "ARCHIVE_URL" in text
    assert len(text.splitlines()) == 1
    with_settings(archive, archive_url=f"file:{archive.folder}")
    archive.assert_nothing_lost()
