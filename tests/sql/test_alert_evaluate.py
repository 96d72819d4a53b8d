"""Episodes from readings: what opens, extends and resolves an alert, whatever the order of arrival."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from build import World, at
from fix_database import Server


@pytest.fixture
def world(database: Any) -> Iterator[World]:
    w = World(database.url())
    yield w
    w.db.close()


def test_violating_reading_opens_an_alert(world: World) -> None:
    world.make_threshold(limit=8)
    world.write(world.make_sensor(), [(0, 7), (1, 8.5)])
    assert world.episodes() == [("warning", "high", "open", 1, 1, None, 8.5, 1)]
    assert world.events() == ["raised"]


def test_value_at_the_limit_does_not_violate(world: World) -> None:
    world.make_threshold(limit=8)
    world.make_threshold(side="low", limit=7)
    world.write(world.make_sensor(), [(0, 8), (1, 7)])
    assert world.episodes() == []


def test_clear_reading_resolves_at_its_own_time(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(1, 8.5)])
    world.write(sensor, [(2, 9), (3, 7.5)])
    assert world.episodes() == [("warning", "high", "resolved", 1, 2, 3, 9, 2)]
    assert world.events() == ["raised", "resolved"]


def test_low_side_keeps_the_lowest_value_as_peak(world: World) -> None:
    world.make_threshold(metric="dissolved_oxygen", side="low", limit=4)
    world.write(world.make_sensor(), [(0, 3), (1, 2), (2, 3.5)], "dissolved_oxygen")
    assert world.episodes() == [("warning", "low", "open", 0, 2, None, 2, 3)]


def test_hysteresis_keeps_an_alert_open_until_well_inside(world: World) -> None:
    world.make_threshold(limit=8, hysteresis=0.5)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 8.1), (1, 7.9), (2, 7.6), (3, 8.2)])
    assert world.episodes() == [("warning", "high", "open", 0, 3, None, 8.2, 2)]
    world.write(sensor, [(4, 7.5)])
    assert world.episodes() == [("warning", "high", "resolved", 0, 3, 4, 8.2, 2)]


def test_minimum_duration_counts_from_the_first_violation(world: World) -> None:
    world.make_threshold(limit=8, min_duration="10 minutes")
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9), (9, 9)])
    assert [e[2] for e in world.episodes()] == ["pending"]
    assert world.events() == []
    world.write(sensor, [(10, 9)])
    assert world.episodes() == [("warning", "high", "open", 0, 10, None, 9, 3)]
    assert world.events() == ["raised"]


def test_short_excursion_leaves_nothing_behind(world: World) -> None:
    world.make_threshold(limit=8, min_duration="10 minutes")
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9)])
    world.write(sensor, [(5, 7)])
    assert world.episodes() == []
    assert world.events() == []


def test_pending_and_next_excursion_in_one_batch(world: World) -> None:
    world.make_threshold(limit=8, min_duration="5 minutes")
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9)])
    world.write(sensor, [(1, 7), (2, 9), (8, 9.5), (9, 7), (10, 9)])
    assert world.episodes() == [
        ("warning", "high", "resolved", 2, 8, 9, 9.5, 2),
        ("warning", "high", "pending", 10, 10, None, 9, 1),
    ]
    assert world.events() == ["raised", "resolved"]


def test_several_excursions_in_one_batch(world: World) -> None:
    world.make_threshold(limit=8)
    world.write(world.make_sensor(), [(0, 9), (1, 7), (2, 9.5), (3, 9), (4, 7), (5, 8.5)])
    assert world.episodes() == [
        ("warning", "high", "resolved", 0, 0, 1, 9, 1),
        ("warning", "high", "resolved", 2, 3, 4, 9.5, 2),
        ("warning", "high", "open", 5, 5, None, 8.5, 1),
    ]


def test_warning_and_critical_are_two_causes(world: World) -> None:
    world.make_threshold(limit=8)
    world.make_threshold(limit=9, severity="critical")
    world.write(world.make_sensor(), [(0, 8.5), (1, 9.5), (2, 8.7)])
    assert world.episodes() == [
        ("warning", "high", "open", 0, 2, None, 9.5, 3),
        ("critical", "high", "resolved", 1, 1, 2, 9.5, 1),
    ]


@pytest.mark.parametrize("scope", ["sensor_id", "site_id"])
def test_more_specific_threshold_wins(world: World, scope: str) -> None:
    sensor, other = world.make_sensor(), world.make_sensor("other", site=False)
    world.make_threshold(limit=8)
    world.make_threshold(limit=9, **{scope: sensor if scope == "sensor_id" else world.site_id})
    world.write(sensor, [(0, 8.5)])
    world.write(other, [(0, 8.5)])
    assert len(world.episodes()) == 1
    assert world.one("select sensor_id from alert.episode")["sensor_id"] == other


def test_platform_default_applies_where_the_tenant_says_nothing(world: World) -> None:
    world.make_threshold(limit=8, tenant_id=None)
    world.write(world.make_sensor(), [(0, 8.5)])
    assert len(world.episodes()) == 1


def test_disabled_override_switches_the_limit_off(world: World) -> None:
    sensor = world.make_sensor()
    world.make_threshold(limit=8)
    world.make_threshold(limit=8, sensor_id=sensor, is_enabled=False)
    world.write(sensor, [(0, 9)])
    assert world.episodes() == []


def test_late_violation_inside_an_open_alert_is_counted(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9), (10, 9)])
    world.write(sensor, [(5, 9.7)])
    assert world.episodes() == [("warning", "high", "open", 0, 10, None, 9.7, 3)]
    assert world.events() == ["raised"]


def test_late_violation_before_an_open_alert_moves_its_start(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 7), (10, 9)])
    world.write(sensor, [(5, 8.5)])
    assert world.episodes() == [("warning", "high", "open", 5, 10, None, 9, 2)]
    assert world.events() == ["raised"]


def test_late_violation_in_the_past_is_recorded_as_resolved(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 7), (10, 7), (20, 7)])
    world.write(sensor, [(5, 9)])
    assert world.episodes() == [("warning", "high", "resolved", 5, 5, 10, 9, 1)]


@pytest.mark.parametrize(("own", "times"), [(1, 3), (3, 3), (1, 150), (3, 150)])
def test_late_violation_is_seen_among_what_others_send(world: World, own: int, times: int) -> None:
    world.make_threshold(limit=8)
    sensor, other = world.make_sensor(), world.make_sensor("other")
    # in the minute that the evaluation looks into, at times of their own
    world.write(other, [(5 + n / times / 2, 7) for n in range(times)])
    world.write(sensor, [(0, 7), (5.75, 7)])
    world.write(sensor, [(5 + n / 10, 9) for n in range(own)])
    assert world.episodes()[0][2] == "resolved"
    assert world.events() == ["raised", "resolved"]


def test_late_violation_extends_a_resolved_alert(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9), (10, 7), (20, 7)])
    world.write(sensor, [(5, 9.5)])
    assert world.episodes() == [("warning", "high", "resolved", 0, 5, 10, 9.5, 2)]
    assert world.events() == ["raised", "resolved"]


def test_late_readings_reach_the_minimum_duration(world: World) -> None:
    world.make_threshold(limit=8, min_duration="5 minutes")
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9), (10, 7), (20, 7)])
    assert world.episodes() == []
    world.write(sensor, [(5, 9)])
    assert world.episodes() == [("warning", "high", "resolved", 0, 5, 10, 9, 2)]


def test_acknowledged_alert_stays_acknowledged_until_clear(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9)])
    episode = world.one("select episode_id from alert.episode")["episode_id"]
    world.all(
        "select alert.decide(%s, %s, 'acknowledged', 'ann', 'on my way')", episode, world.tenant_id
    )
    world.write(sensor, [(1, 9.2)])
    assert [e[2] for e in world.episodes()] == ["acknowledged"]
    world.write(sensor, [(2, 7)])
    assert [e[2] for e in world.episodes()] == ["resolved"]
    assert world.events() == ["raised", "acknowledged", "resolved"]


@pytest.mark.parametrize("decision", ["acknowledged", "investigating", "resolved"])
def test_a_decision_during_a_batch_holds(world: World, database: Any, decision: str) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9)])
    episode = world.one("select episode_id from alert.episode")["episode_id"]

    def write() -> None:
        with psycopg.connect(database.url()) as connection:
            connection.execute(
                "insert into alert.candidate (sensor_id, ts, value, metric_id) values (%s, %s, 9.5, 1)",
                (sensor, at(1)),
            )

    writer = threading.Thread(target=write)
    with psycopg.connect(database.url()) as person:
        person.execute("select alert.decide(%s, null, %s, 'ann', null)", (episode, decision))
        writer.start()
        writer.join(1)
        assert writer.is_alive()  # it has judged, and waits for the episode
    writer.join()
    assert [e[2] for e in world.episodes()] == [decision]
    assert world.events() == ["raised", decision]


def test_a_decision_that_the_state_forbids_is_refused(world: World) -> None:
    world.make_threshold(limit=8)
    world.write(world.make_sensor(), [(0, 9), (1, 7)])
    episode = world.one("select episode_id from alert.episode")["episode_id"]
    with pytest.raises(psycopg.Error) as caught:
        world.all("select alert.decide(%s, null, 'acknowledged', 'ann', null)", episode)
    assert caught.value.sqlstate == "HW409"


def test_another_tenant_cannot_decide(world: World) -> None:
    world.make_threshold(limit=8)
    world.write(world.make_sensor(), [(0, 9)])
    episode = world.one("select episode_id, tenant_id from alert.episode")
    row = world.one(
        "select d.episode_id from alert.decide(%s, %s, 'resolved', 'eve', null) as d",
        *(episode["episode_id"], episode["tenant_id"] + 1),
    )
    assert row["episode_id"] is None


def test_sweep_finds_readings_that_came_by_another_door(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.store_only(sensor, [(0, 7), (1, 9), (2, 9.5), (3, 7), (4, 8.5)])
    for _ in range(2):  # the second time changes nothing
        world.all("select alert.sweep(%s, %s)", at(-1), at(60))
        assert world.episodes() == [
            ("warning", "high", "resolved", 1, 2, 3, 9.5, 2),
            ("warning", "high", "open", 4, 4, None, 8.5, 1),
        ]
    assert world.events() == ["raised", "resolved", "raised"]


def test_sweep_closes_what_missed_its_clear_reading(world: World) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()
    world.write(sensor, [(0, 9)])
    world.store_only(sensor, [(1, 7)])
    world.all("select alert.sweep(now(), now())")
    assert world.episodes() == [("warning", "high", "resolved", 0, 0, 1, 9, 1)]


def test_sweep_resolves_alerts_whose_threshold_is_gone(world: World) -> None:
    threshold = world.make_threshold(limit=8)
    world.write(world.make_sensor(), [(0, 9)])
    world.all("update alert.threshold set is_enabled = false where threshold_id = %s", threshold)
    for _ in range(2):
        world.all("select alert.sweep(now(), now())")
    row = world.one("select state, note from alert.episode")
    assert row == {"state": "resolved", "note": "threshold withdrawn"}
    assert world.events() == ["raised", "resolved"]


def test_one_bell_for_a_batch(world: World, database: Any, pg_server: Server) -> None:
    if pg_server.is_distributed:
        pytest.skip("shards written through the coordinator may not notify; its writer does")
    world.make_threshold(limit=8)
    sensors = [world.make_sensor(f"s{i}") for i in range(5)]
    with psycopg.connect(database.url(), autocommit=True) as listener:
        listener.execute("listen alert_raised")
        with world.db.transaction():
            for sensor in sensors:
                world.write(sensor, [(0, 9)])
        bells = list(listener.notifies(timeout=1))
    assert len(bells) == 1


def test_two_writers_at_once_open_one_alert(world: World, database: Any) -> None:
    world.make_threshold(limit=8)
    sensor = world.make_sensor()

    def write(start: int) -> None:
        with psycopg.connect(database.url()) as connection:
            for minute in range(start, 60, 2):
                with connection.transaction():
                    for table in ("telemetry.reading", "alert.candidate"):
                        connection.execute(
                            f"insert into {table} (sensor_id, ts, value, metric_id)"
                            " values (%s, %s, 9, 1)",
                            (sensor, at(minute)),
                        )

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.episodes() == [("warning", "high", "open", 0, 59, None, 9, 60)]
    assert world.events() == ["raised"]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_violations_gives_the_episodes_of_the_data(world: World, seed: int) -> None:
    """Batches in order of time equal one pass; late violating readings extend, never duplicate."""
    world.make_threshold(limit=8, hysteresis=0.5, min_duration="2 minutes")
    rng = random.Random(seed)
    readings = [(float(m), rng.choice([7.0, 7.8, 8.5, 9.0])) for m in range(60)]
    in_order, shuffled = world.make_sensor("in-order"), world.make_sensor("one-batch")
    start = 0
    while start < len(readings):
        size = rng.randint(1, 9)
        world.write(in_order, readings[start : start + size])
        start += size
    world.write(shuffled, rng.sample(readings, len(readings)))
    columns = "state, opened_at, last_at, resolved_at, peak, reading_count"
    one, other = (
        world.all(f"select {columns} from alert.episode where sensor_id = %s order by opened_at", s)
        for s in (in_order, shuffled)
    )
    assert one == other
    assert one
