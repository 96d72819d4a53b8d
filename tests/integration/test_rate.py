"""Rate limits on a real Redis, which is killed, emptied and frozen."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fix_redis import Cache

from app.rate.ask import Ask, SensorRates, parts
from app.rate.limiter import Limiter
from app.rate.local import LocalBuckets
from app.rate.shared import SharedBuckets
from app.settings import Settings

# so slow that nothing comes back during a test
SLOW = SensorRates(1e12, 5e12, 1e10, 1e12)
"""5 requests, then 100 readings."""


@asynccontextmanager
async def buckets(cache: Cache, sensor: SensorRates = SLOW) -> AsyncIterator[SharedBuckets]:
    made = SharedBuckets(cache.url, sensor, timeout=5)
    yield made
    await made.close()


@asynccontextmanager
async def limiter(cache: Cache, **settings: Any) -> AsyncIterator[Limiter]:
    slow: dict[str, Any] = {
        "redis_url": cache.url,
        "rate_sensor_requests_per_second": 0.000_01,
        "rate_sensor_burst": 10,
        "rate_sensor_catch_up_readings": 0,
        "rate_redis_timeout_ms": 5_000,
    }
    made = Limiter(Settings(**(slow | settings)))
    made.start()
    await settled(made, "redis")
    yield made
    await made.stop()


def stored_bytes(cache: Cache) -> int:
    """Redis' memory without the buffers of its clients."""
    memory: Any = cache.client.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"])


async def settled(limiter: Limiter, mode: str) -> None:
    async with asyncio.timeout(5):
        while limiter.mode != mode:  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(0.01)


def ask(*sensors: int, readings: int = 1, burst: float = 0, tenant_id: int = 1) -> Ask:
    """A request with so many readings of each sensor; burst: of the key, which never refills."""
    us = 1e12 if burst else 0.0
    total = readings * max(1, len(sensors))
    return Ask(
        tenant_id, 0.0, 0.0, 2, us, burst * us, total, parts(sensors, [readings] * len(sensors))
    )


# The buckets


async def test_redis_and_process_agree(cache: Cache) -> None:
    random.seed(7)
    local = LocalBuckets(SLOW)
    async with buckets(cache) as shared:
        for _ in range(400):
            count = random.choice((0, 1, 1, 2, 5, 40))
            one = ask(
                *sorted(random.sample(range(150), count)),
                readings=random.choice((1, 7, 30)),
                burst=2_000,
            )
            (found,), expected = await shared.take([one]), local.take(one)
            assert found.is_granted == expected.is_granted
            assert (
                found.left_key,
                found.left_sensor,
                found.left_catch_up,
                list(found.refused),
            ) == (
                expected.left_key,
                expected.left_sensor,
                expected.left_catch_up,
                expected.refused,
            )


async def test_requests_of_one_call_are_served_in_order(cache: Cache) -> None:
    async with buckets(cache) as shared:
        answers = await shared.take([ask(7, readings=200, burst=2_000) for _ in range(8)])
        assert [answer.is_granted for answer in answers] == [True] * 5 + [False] * 3
        assert [answer.left_key for answer in answers] == [
            1800,
            1600,
            1400,
            1200,
            1000,
            1000,
            1000,
            1000,
        ]


async def test_concurrent_takers_never_get_more_than_the_bucket_holds(cache: Cache) -> None:
    async def client() -> int:
        async with buckets(cache) as shared:
            granted = 0
            for _ in range(60):
                (answer,) = await shared.take([ask(*range(100), burst=5_000)])
                granted += answer.is_granted
            return granted

    counts = await asyncio.gather(*(client() for _ in range(8)))
    # 5 requests and 100 readings for each sensor, but 50 batches of 100 readings for the key
    assert sum(counts) == 50


async def test_tokens_come_back_by_redis_own_clock(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    async with buckets(cache, SensorRates(100_000.0, 200_000.0, 0.0, 1.0)) as shared:
        answers = await shared.take([ask(7)] * 3)
        assert [answer.is_granted for answer in answers] == [True, True, False]
        wait = answers[2].wait_sensor_us / 1e6
        assert 0 < wait <= 0.1
        await asyncio.sleep(wait)
        assert (await shared.take([ask(7)]))[0].is_granted


async def test_every_key_expires_and_a_sensor_costs_few_bytes(cache: Cache) -> None:
    fast = SensorRates(1e6, 60e6, 864_000.0, 86.4e9)
    async with buckets(cache, fast) as shared:
        before = stored_bytes(cache)
        for start in range(0, 64_000, 3_200):
            await shared.take([ask(*range(start, start + 3_200), burst=1e6)])
        used = stored_bytes(cache) - before
    assert used / 64_000 < 20
    for key in cache.client.scan_iter(count=1_000):
        assert cache.client.pttl(key) > 0


async def test_tenants_share_no_bucket(cache: Cache) -> None:
    async with buckets(cache) as shared:
        for _ in range(6):
            await shared.take([ask(7, readings=200)])
        assert not (await shared.take([ask(7, readings=200)]))[0].is_granted
        assert (await shared.take([ask(7, readings=200, tenant_id=2)]))[0].is_granted


# The limiter


async def test_concurrent_requests_share_a_round_trip(cache: Cache) -> None:
    async with limiter(cache) as made:
        calls = cache.calls()
        answers = await asyncio.gather(*(made.ask(ask(7)) for _ in range(200)))
        assert sum(answer.is_granted for answer in answers) == 10
        assert cache.calls() - calls <= 3


async def test_the_script_flushed_and_the_memory_emptied(cache: Cache) -> None:
    async with limiter(cache) as made:
        assert (await made.ask(ask(7))).left_sensor == 9
        cache.client.script_flush()
        assert (await made.ask(ask(7))).left_sensor == 8
        cache.client.flushall()
        assert (await made.ask(ask(7))).left_sensor == 9
        assert made.mode == "redis"


async def test_redis_killed_and_back(cache: Cache) -> None:
    async with limiter(cache) as made:
        assert (await made.ask(ask(7))).is_granted
        cache.kill9()
        started = time.monotonic()
        answers = [await made.ask(ask(7)) for _ in range(20)]
        assert time.monotonic() - started < 5  # not even one time-out
        assert made.mode == "in-process"
        assert sum(answer.is_granted for answer in answers) == 2  # a quarter of 10
        cache.start()
        await settled(made, "redis")
        assert (await made.ask(ask(7))).left_sensor == 9


async def test_redis_restarted_between_two_requests_is_not_noticed(cache: Cache) -> None:
    async with limiter(cache) as made:
        await made.ask(ask(7))
        cache.kill9()
        cache.start()
        assert (await made.ask(ask(7))).left_sensor == 9
        assert made.mode == "redis"


async def test_redis_frozen_costs_one_time_out_and_then_nothing(cache: Cache) -> None:
    async with limiter(cache, rate_redis_timeout_ms=1_000) as made:
        cache.signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            await asyncio.gather(*(made.ask(ask(n)) for n in range(50)))
            assert 0.9 < time.monotonic() - started < 10
            waited = 0.0
            for _ in range(15):
                started = time.monotonic()
                await made.ask(ask(8))
                waited += time.monotonic() - started
                await asyncio.sleep(0.1)
            assert waited < 1  # not once the time-out again
            assert made.mode == "in-process"
        finally:
            cache.signal(signal.SIGCONT)
        await settled(made, "redis")


async def test_redis_that_refuses_is_as_good_as_gone(cache: Cache) -> None:
    async with limiter(cache) as made:
        cache.client.config_set("maxmemory-policy", "noeviction")
        cache.client.config_set("maxmemory", 1)
        try:
            assert (await made.ask(ask(7))).is_granted
            assert made.mode == "in-process"
        finally:
            cache.client.config_set("maxmemory", 0)
        await settled(made, "redis")


async def test_a_process_that_starts_without_redis_limits_at_once(cache: Cache) -> None:
    cache.kill9()
    made = Limiter(
        Settings(
            redis_url=cache.url,
            rate_sensor_requests_per_second=0.000_01,
            rate_sensor_catch_up_readings=0,
        )
    )
    made.start()
    answers = [await made.ask(ask(7)) for _ in range(100)]
    assert sum(answer.is_granted for answer in answers) == 15
    # a token comes back in a day and a half; Redis, which may hold some, is soon asked again
    assert answers[-1].wait_sensor_us == 10_000_000
    cache.start()
    await settled(made, "redis")
    await made.stop()


async def test_who_waits_is_answered_when_the_process_stops(cache: Cache) -> None:
    async with limiter(cache) as made:
        cache.signal(signal.SIGSTOP)
        try:
            waiting = [asyncio.create_task(made.ask(ask(n))) for n in range(5)]
            await asyncio.sleep(0.05)
            await made.stop()
            assert all(answer.is_granted for answer in await asyncio.gather(*waiting))
        finally:
            cache.signal(signal.SIGCONT)
