"""Token buckets in terms of what a sender may do."""

import pytest

from app.rate.ask import Answer, Ask, SensorRates, parts
from app.rate.local import LocalBuckets

HOUR_US = 3_600_000_000.0
SENSOR = SensorRates(1e6, 5e6, HOUR_US / 100, HOUR_US)
"""1 request a second, 5 at once, 100 readings an hour beyond that."""


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def ask(
    *sensors: int,
    readings: int = 1,
    key: tuple[float, float] = (0, 0),
    tenant: tuple[float, float] = (0, 0),
) -> Ask:
    """A request with so many readings of each sensor; limits as (readings a second, burst)."""
    (key_us, key_fill), (tenant_us, tenant_fill) = (
        (1e6 / rate, burst * 1e6 / rate) if rate else (0.0, 0.0) for rate, burst in (key, tenant)
    )
    return Ask(
        1,
        tenant_us,
        tenant_fill,
        2,
        key_us,
        key_fill,
        readings * max(1, len(sensors)),
        parts(sensors, [readings] * len(sensors)),
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def buckets(clock: Clock) -> LocalBuckets:
    return LocalBuckets(SENSOR, clock=clock)


def granted(buckets: LocalBuckets, one: Ask, times: int) -> int:
    return sum(buckets.take(one).is_granted for _ in range(times))


def test_one_request_a_second_goes_on_for_ever(buckets: LocalBuckets, clock: Clock) -> None:
    for _ in range(1_000):
        assert buckets.take(ask(7, readings=50_000)).is_granted
        clock.now += 1.0


def test_burst_then_catch_up_then_refusal(buckets: LocalBuckets) -> None:
    # 5 requests of the burst, then 100 readings of the allowance, 25 a request
    assert granted(buckets, ask(7, readings=25), 20) == 5 + 4
    answer = buckets.take(ask(7, readings=25))
    assert answer.refused == [7]
    assert (answer.left_sensor, answer.left_catch_up) == (0, 0)
    assert answer.wait_sensor_us == pytest.approx(1e6)


def test_a_request_too_big_for_the_allowance_waits_for_a_request_token(
    buckets: LocalBuckets, clock: Clock
) -> None:
    assert granted(buckets, ask(7, readings=101), 10) == 5
    clock.now += 1.0
    assert granted(buckets, ask(7, readings=101), 10) == 1


def test_waiting_as_long_as_told_is_enough(buckets: LocalBuckets, clock: Clock) -> None:
    one = ask(readings=30, key=(10, 100))
    while (answer := buckets.take(one)).is_granted:
        pass
    clock.now += answer.wait_key_us / 1e6
    assert buckets.take(one).is_granted


def test_a_refused_request_costs_nothing(buckets: LocalBuckets) -> None:
    small, big = ask(readings=1, key=(1, 10)), ask(readings=6, key=(1, 10))
    assert buckets.take(big).is_granted
    for _ in range(100):
        assert not buckets.take(big).is_granted
    assert granted(buckets, small, 10) == 4


def test_one_refused_sensor_refuses_the_request_and_costs_its_neighbours_nothing(
    buckets: LocalBuckets,
) -> None:
    while buckets.take(ask(7, readings=100)).is_granted:
        pass
    answer = buckets.take(ask(6, 7, 8, readings=100, key=(1, 1_000)))
    assert answer.refused == [7]
    assert answer.left_key == 1_000
    assert buckets.take(ask(6, 8)).left_sensor == 4


def test_a_batch_costs_each_sensor_one_request(buckets: LocalBuckets) -> None:
    answer = buckets.take(ask(*range(1_000), readings=60))
    assert answer.is_granted
    assert answer.left_sensor == 4


def test_more_than_a_whole_bucket_passes_when_it_is_full(
    buckets: LocalBuckets, clock: Clock
) -> None:
    one = ask(readings=100, tenant=(10, 50))
    assert buckets.take(one).is_granted
    answer = buckets.take(ask(readings=1, tenant=(10, 50)))
    assert answer.wait_tenant_us == pytest.approx(5.1e6)
    clock.now += 10
    assert buckets.take(one).is_granted


def test_the_longest_of_several_waits_counts(buckets: LocalBuckets) -> None:
    one = ask(readings=10, key=(1, 10), tenant=(5, 10))
    buckets.take(one)
    answer = buckets.take(one)
    assert (answer.wait_key_us, answer.wait_tenant_us) == (pytest.approx(1e7), pytest.approx(2e6))


def test_standing_in_for_redis_gives_away_a_share_but_keeps_the_pace(clock: Clock) -> None:
    buckets = LocalBuckets(SENSOR, share=0.4, clock=clock)
    assert granted(buckets, ask(readings=1, key=(10, 100)), 200) == 40
    assert granted(buckets, ask(7, readings=10), 20) == 2 + 4  # of 5 and of 100
    for _ in range(20):
        clock.now += 1.0
        assert buckets.take(ask(7, readings=10)).is_granted


def test_another_limit_begins_with_a_full_bucket(buckets: LocalBuckets) -> None:
    while buckets.take(ask(key=(0.01, 20))).is_granted:
        pass
    assert buckets.take(ask(key=(1_000, 2_000))).left_key == 1_999


def test_memory_is_bounded_and_the_emptiest_are_kept(clock: Clock) -> None:
    buckets = LocalBuckets(SENSOR, clock=clock, most=1_000)
    while buckets.take(ask(7, readings=100)).is_granted:
        pass
    for sensor in range(1_000, 6_000):
        buckets.take(ask(sensor))
        assert len(buckets) <= 1_002
    assert not buckets.take(ask(7, readings=100)).is_granted
    clock.now += 7_200
    for sensor in range(1_000, 2_500):
        buckets.take(ask(sensor))
    assert len(buckets) <= 1_002


def test_parts_leave_out_sensors_without_readings() -> None:
    assert parts([1, 64, 65, 200], [1, 0, 2, 3]) == [(0, [1], [1]), (1, [1], [2]), (3, [8], [3])]


def test_no_limit_says_so(buckets: LocalBuckets) -> None:
    assert buckets.take(ask(readings=10)) == Answer(0.0, 0.0, 0.0, -1, -1, -1, -1, [])
