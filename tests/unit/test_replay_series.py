"""Choosing, moving and laying out series before they are sent."""

import msgspec
import numpy as np
import pytest

from app.errors import CommandError
from app.replay.feed import Feed, feeds
from app.replay.series import DAY, SECOND, Series, align, clone, cut, last_days, shift_to

NAN = float("nan")


def make_series(
    *readings: tuple[float, float], sensor: str = "s", metric: str = "ph", unit: str = ""
) -> Series:
    """Readings given as (second, value)."""
    return Series(
        sensor=sensor,
        metric=metric,
        unit=unit,
        ts=np.array([int(second * SECOND) for second, _ in readings], dtype=np.int64),
        values=np.array([value for _, value in readings], dtype=np.float64),
    )


def seconds(series: list[Series]) -> list[list[int]]:
    """Times of each series."""
    return [(one.ts // SECOND).tolist() for one in series]


def test_cut_takes_the_start_and_leaves_the_end() -> None:
    series = [make_series((1, 1), (2, 2), (3, 3)), make_series((9, 9))]
    assert seconds(cut(series, start=SECOND, end=3 * SECOND)) == [[1, 2]]


def test_last_days_are_counted_from_each_sensors_own_end() -> None:
    day = DAY // SECOND
    series = [
        make_series((0, 1), (day, 2), (2 * day, 3)),
        make_series((1, 1), metric="turbidity"),
        make_series((9 * day, 1), sensor="other"),
    ]
    assert seconds(last_days(series, 1)) == [[2 * day], [9 * day]]
    assert seconds(last_days(series, 1.5)) == [[day, 2 * day], [9 * day]]


def test_align_moves_sensors_as_a_whole_and_shift_moves_all_alike() -> None:
    series = [
        make_series((1, 1), (5, 2)),
        make_series((3, 1), metric="turbidity"),
        make_series((10, 1), sensor="other"),
    ]
    assert seconds(align(series)) == [[6, 10], [8], [10]]
    assert seconds(shift_to(series, 110 * SECOND + 7)) == [[101, 105], [103], [110]]


def test_clones_are_numbered_and_alike() -> None:
    clones = clone([make_series((1, 1)), make_series((1, 2), metric="turbidity")], 2)
    assert [(one.sensor, one.metric) for one in clones] == [
        ("s-1", "ph"), ("s-1", "turbidity"), ("s-2", "ph"), ("s-2", "turbidity"),
    ]  # fmt: skip


def bodies(feed: Feed, limit: int, until: float = float("inf")) -> list[dict[str, object]]:
    """Every request that is left."""
    parts = []
    while len(feed):
        batch = feed.take(limit, until)
        assert batch.readings <= max(limit, len(feed.columns))
        parts.append(msgspec.json.decode(batch.body))
    return parts


def test_a_body_has_a_row_per_time_and_null_where_a_metric_has_no_value() -> None:
    (feed,) = feeds(
        [
            make_series((1, 7.1), (3, 7.3)),
            make_series((1, 5.5), (2, 5.6), metric="specific_conductance", unit="mS/cm"),
        ]
    )
    assert bodies(feed, 100) == [
        {
            "sensor": "s",
            "ts": [1, 2, 3],
            "metrics": {"ph": [7.1, None, 7.3], "specific_conductance": [5.5, 5.6, None]},
            "units": {"specific_conductance": "mS/cm"},
        }
    ]


def test_batches_cut_at_the_limit_of_readings_lose_and_repeat_nothing() -> None:
    (feed,) = feeds(
        [
            make_series(*((second, second) for second in range(20))),
            make_series(*((second, -second) for second in range(0, 20, 3)), metric="turbidity"),
        ]
    )
    assert len(feed) == 27
    parts = bodies(feed, 4)
    assert [ts for part in parts for ts in part["ts"]] == list(range(20))  # type: ignore[attr-defined]
    values = [
        value
        for part in parts
        for column in part["metrics"].values()  # type: ignore[attr-defined]
        for value in column
        if value is not None
    ]
    assert len(values) == 27


def test_a_row_larger_than_the_limit_is_sent_whole() -> None:
    (feed,) = feeds([make_series((1, 1)), make_series((1, 2), metric="turbidity")])
    assert feed.take(1, float("inf")).readings == 2


def test_a_second_value_of_the_same_time_follows_in_a_row_of_its_own() -> None:
    (feed,) = feeds(
        [
            make_series((1, 1.0), (2, 2.0), (2, 2.5), (3, 3.0)),
            make_series((2, 9.0), metric="turbidity"),
            make_series((2, 2.75)),
        ]
    )
    assert bodies(feed, 100) == [
        {
            "sensor": "s",
            "ts": [1, 2, 2, 2, 3],
            "metrics": {
                "ph": [1.0, 2.0, 2.5, 2.75, 3.0],
                "turbidity": [None, 9.0, None, None, None],
            },
        }
    ]


def test_times_below_a_second_are_sent_as_microseconds() -> None:
    (feed,) = feeds([make_series((1.5, 1), (2, 2))])
    batch = feed.take(100, float("inf"))
    assert batch.precision == "us"
    assert msgspec.json.decode(batch.body)["ts"] == [1_500_000, 2_000_000]


def test_rows_after_the_present_moment_stay() -> None:
    (feed,) = feeds([make_series((1, 1), (2, 2), (3, 3))])
    assert feed.take(100, 2 * SECOND).last == 2 * SECOND
    assert len(feed) == 1


def test_two_units_for_one_metric_of_a_sensor_are_refused() -> None:
    with pytest.raises(CommandError, match="two units"):
        feeds([make_series((1, 1), unit="ft"), make_series((1, 1), unit="m")])
