"""The demo's second opinion, against episodes worked out by hand and a literal twin."""

import random

import msgspec
import numpy as np
import pytest

from app.demo.expected import Episode, Rule, expected_episodes, read_rules
from app.replay.series import SECOND, Series

HIGH = Rule(metric="ph", side="high", severity="warning", limit_value=9.0)


def make_series(
    *readings: tuple[int, float], sensor: str = "s", metric: str = "ph", unit: str = ""
) -> Series:
    """Readings given as (second, value)."""
    return Series(
        sensor=sensor,
        metric=metric,
        unit=unit,
        ts=np.array([second * SECOND for second, _ in readings], dtype=np.int64),
        values=np.array([value for _, value in readings], dtype=np.float64),
    )


def found(series: Series | list[Series], *rules: Rule) -> list[tuple[object, ...]]:
    """(opened, last, resolved, peak, n) of the episodes, in seconds."""
    every = expected_episodes(series if isinstance(series, list) else [series], rules)
    return [
        (
            one.opened_at // SECOND,
            one.last_at // SECOND,
            None if one.resolved_at is None else one.resolved_at // SECOND,
            one.peak,
            one.n,
        )
        for one in every
    ]


def test_an_episode_runs_from_the_first_violating_to_the_first_clear_reading() -> None:
    series = make_series((0, 8.0), (10, 9.1), (20, 9.6), (30, 9.2), (40, 8.9), (50, 8.0))
    assert found(series, HIGH) == [(10, 30, 40, 9.6, 3)]


def test_a_value_on_the_limit_does_not_violate_and_clears() -> None:
    assert found(make_series((0, 9.0)), HIGH) == []
    assert found(make_series((0, 9.5), (10, 9.0), (20, 9.5)), HIGH) == [
        (0, 0, 10, 9.5, 1),
        (20, 20, None, 9.5, 1),
    ]


def test_values_within_the_hysteresis_keep_an_episode_open_and_are_not_counted() -> None:
    rule = msgspec.structs.replace(HIGH, hysteresis=0.5)
    series = make_series((0, 9.2), (10, 8.75), (20, 9.1), (30, 8.6), (40, 8.5), (50, 8.75))
    assert found(series, rule) == [(0, 20, 40, 9.2, 2)]


def test_a_value_within_the_hysteresis_opens_nothing() -> None:
    rule = msgspec.structs.replace(HIGH, hysteresis=0.5)
    assert found(make_series((0, 8.75), (10, 8.9)), rule) == []


def test_a_shorter_excursion_than_the_minimum_duration_is_no_episode() -> None:
    rule = msgspec.structs.replace(HIGH, min_duration=20)
    assert found(make_series((0, 9.1), (19, 9.2), (20, 8.0)), rule) == []
    assert found(make_series((0, 9.1), (20, 9.2), (21, 8.0)), rule) == [(0, 20, 21, 9.2, 2)]


def test_the_minimum_duration_is_reached_by_a_violating_reading_only() -> None:
    rule = msgspec.structs.replace(HIGH, min_duration=20, hysteresis=0.5)
    series = make_series((0, 9.1), (10, 9.2), (60, 8.75), (70, 8.0))
    assert found(series, rule) == []
    again = make_series((0, 9.1), (10, 8.75), (60, 9.3), (70, 8.0))
    assert found(again, rule) == [(0, 60, 70, 9.3, 2)]


def test_a_gap_in_the_data_ends_nothing() -> None:
    rule = msgspec.structs.replace(HIGH, min_duration=3600)
    assert found(make_series((0, 9.1), (86_400, 9.4), (86_410, 8.0)), rule) == [
        (0, 86_400, 86_410, 9.4, 2)
    ]


def test_an_episode_may_be_open_at_the_end_of_the_data() -> None:
    assert found(make_series((0, 8.0), (10, 9.1), (20, 9.3)), HIGH) == [(10, 20, None, 9.3, 2)]


def test_a_low_limit_is_the_mirror_image() -> None:
    rule = Rule(metric="ph", side="low", severity="critical", limit_value=6.0, hysteresis=0.5)
    series = make_series((0, 6.0), (10, 5.9), (20, 5.2), (30, 6.25), (40, 6.5), (50, 5.0))
    assert found(series, rule) == [(10, 20, 40, 5.2, 2), (50, 50, None, 5.0, 1)]


def test_of_several_readings_of_one_time_the_first_sent_counts() -> None:
    assert found(make_series((0, 8.0), (10, 9.5), (10, 8.0), (20, 8.0)), HIGH) == [
        (10, 10, 20, 9.5, 1)
    ]
    assert found([make_series((10, 8.0)), make_series((10, 9.5))], HIGH) == []


def test_limits_are_in_the_stored_unit() -> None:
    rule = Rule(
        metric="specific_conductance", side="high", severity="warning", limit_value=52_500.5
    )
    sent = make_series((0, 52.5), (10, 52.75), metric="specific_conductance", unit="mS/cm")
    assert found(sent, rule) == [(10, 10, None, 52_750.0, 1)]


def test_a_sensors_own_limit_replaces_the_general_one_of_its_side_and_severity() -> None:
    own = msgspec.structs.replace(HIGH, limit_value=10.0, sensor="s")
    critical = msgspec.structs.replace(HIGH, severity="critical")
    series = [make_series((0, 9.5)), make_series((0, 9.5), sensor="other")]
    for rules in ([HIGH, own, critical], [own, critical, HIGH]):
        every = expected_episodes(series, rules)
        assert {(one.sensor, one.severity) for one in every} == {
            ("s", "critical"),
            ("other", "warning"),
            ("other", "critical"),
        }


def literal_episodes(readings: list[tuple[int, float]], rule: Rule) -> list[Episode]:
    """The definition read literally: every violating reading belongs to the latest clear before."""
    sign = 1 if rule.side == "high" else -1
    limit = sign * rule.limit_value
    violating = [(ts, v) for ts, v in readings if sign * v > limit]
    clear = [ts for ts, v in readings if sign * v <= limit and sign * v <= limit - rule.hysteresis]
    groups: dict[int, list[tuple[int, float]]] = {}
    for ts, value in violating:
        groups.setdefault(max((c for c in clear if c < ts), default=-1), []).append((ts, value))
    return [
        Episode(
            sensor="s", metric=rule.metric, severity=rule.severity, side=rule.side,
            opened_at=group[0][0], last_at=group[-1][0],
            raised_at=min(ts for ts, _ in group if ts - group[0][0] >= rule.min_duration * SECOND),
            resolved_at=min((c for c in clear if c > group[0][0]), default=None),
            peak=sign * max(sign * value for _, value in group), n=len(group),
        )
        for group in groups.values()
        if any(ts - group[0][0] >= rule.min_duration * SECOND for ts, _ in group)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_the_definition_read_literally(seed: int) -> None:
    chance = random.Random(seed)
    rule = Rule(
        metric="ph",
        side=chance.choice(["high", "low"]),
        severity="warning",
        limit_value=chance.choice([4.0, 5.0, 6.0]),
        hysteresis=chance.choice([0.0, 1.0, 2.5]),
        min_duration=chance.choice([0, 1, 3, 8]),
    )
    seconds = sorted(chance.sample(range(100), 40))
    series = make_series(*((second, float(chance.randint(0, 10))) for second in seconds))
    readings = list(zip(series.ts.tolist(), series.values.tolist(), strict=True))
    assert expected_episodes([series], [rule]) == literal_episodes(readings, rule)


def test_the_demos_thresholds_can_be_read_and_name_each_cause_once() -> None:
    rules = read_rules()
    causes = [(rule.metric, rule.side, rule.severity, rule.sensor) for rule in rules]
    assert len(causes) == len(set(causes))
    assert {rule.side for rule in rules} == {"high", "low"}
    assert {rule.severity for rule in rules} == {"warning", "critical"}
