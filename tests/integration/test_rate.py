"""Rate limits on a real Redis, which is killed, emptied and frozen, and through the real API."""

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import redis
from click.testing import CliRunner
from fix_database import Database
from fix_server import Api, Tenant, row

from app.local.account import account_for
from app.local.credentials import free_port
from app.local.redis_server import RedisServer
from app.rate.ask import Ask, SensorRates, parts
from app.rate.cli import rate
from app.rate.limiter import Limiter
from app.rate.local import LocalBuckets
from app.rate.shared import SharedBuckets
from app.replay.send import replay
from app.replay.series import SECOND, Series
from app.settings import Settings

# so slow that nothing comes back during a test
SLOW = SensorRates(1e12, 5e12, 1e10, 1e12)
"""5 requests, then 100 readings."""


class Cache:
    """A Redis of the tests' own."""

    def __init__(self, home: Path) -> None:
        self.server = RedisServer(home, account_for(home), home / "log")
        self.port = free_port()
        self.url = f"redis://:secret@127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)

    def start(self) -> None:
        self.server.start(port=self.port, password="secret")

    def kill9(self) -> None:
        self.server.kill9()

    def signal(self, number: signal.Signals) -> None:
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, number)

    def calls(self) -> int:
        """Script calls so far."""
        stats: Any = self.client.info("commandstats")
        return sum(
            int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("eval", "evalsha")
        )


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headwater-redis-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Cache]:
    made = Cache(home)
    made.start()
    yield made
    made.client.close()
    made.kill9()


@pytest.fixture
def cache(server: Cache) -> Cache:
    """Running and empty, whatever the test before did to it."""
    server.start()
    server.client.flushall()
    server.client.script_flush()
    return server


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
    }
    made = Limiter(Settings(**(slow | settings)))
    made.start()
    await settled(made, "redis")
    yield made
    await made.stop()


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
        before = cache.client.info("memory")["used_memory"]
        for start in range(0, 64_000, 3_200):
            await shared.take([ask(*range(start, start + 3_200), burst=1e6)])
        used = cache.client.info("memory")["used_memory"] - before
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
        assert time.monotonic() - started < 0.5
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
    async with limiter(cache, rate_redis_timeout_ms=100) as made:
        cache.signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            await asyncio.gather(*(made.ask(ask(n)) for n in range(50)))
            assert 0.09 < time.monotonic() - started < 0.4
            for _ in range(15):
                started = time.monotonic()
                await made.ask(ask(8))
                assert time.monotonic() - started < 0.02
                await asyncio.sleep(0.1)
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
    made = Limiter(Settings(redis_url=cache.url, rate_sensor_catch_up_readings=0))
    made.start()
    answers = [await made.ask(ask(7)) for _ in range(100)]
    assert 15 <= sum(answer.is_granted for answer in answers) <= 16
    cache.start()
    await settled(made, "redis")
    await made.stop()


async def test_who_waits_is_answered_when_the_process_stops(cache: Cache) -> None:
    async with limiter(cache, rate_redis_timeout_ms=5_000) as made:
        cache.signal(signal.SIGSTOP)
        try:
            waiting = [asyncio.create_task(made.ask(ask(n))) for n in range(5)]
            await asyncio.sleep(0.05)
            await made.stop()
            assert all(answer.is_granted for answer in await asyncio.gather(*waiting))
        finally:
            cache.signal(signal.SIGCONT)


# The API

TIGHT = {
    "RATE_SENSOR_REQUESTS_PER_SECOND": "1",
    "RATE_SENSOR_BURST": "3",
    "RATE_SENSOR_CATCH_UP_READINGS": "5",
}


@pytest.fixture
def tight(cache: Cache, serve: Callable[..., Api]) -> Tenant:
    """A tenant of an API with narrow limits on sensors."""
    api = serve(REDIS_URL=cache.url, **TIGHT)
    deadline = time.monotonic() + 5
    while api.client.get("/api/status").json()["rate_limits"] != "redis":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    made = api.make_tenant()
    made.make_sensor("s1")
    made.make_sensor("s2")
    return made


def rows(count: int, sensor: str = "s1", first: int = 0) -> list[Any]:
    """Readings a second apart."""
    return [row(ts=1_700_000_000 + first + n, sensor=sensor) for n in range(count)]


def test_a_sensor_that_sends_too_much_is_told_so(tight: Tenant) -> None:
    for first in range(3):
        answer = tight.post(rows(1, first=first))
        assert answer.status_code == 200
        assert answer.headers["RateLimit"].startswith(f'"sensor";r={2 - first}')
        assert '"catch-up";q=5;qu="readings";w=86400' in answer.headers["RateLimit-Policy"]
    assert tight.post(rows(4, first=3)).status_code == 200  # of the catch-up allowance
    refused = tight.post([*rows(2, first=7), *rows(1, "s2")])
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["Retry-After"] == "1"
    problem = refused.json()
    assert problem["type"] == "/problems/rate-limited"
    assert (problem["limit"], problem["sensors"]) == ("sensor", ["s1"])
    assert "'s1'" in problem["detail"]
    assert "role integration" in problem["detail"]
    # all or nothing: the neighbour's reading was not stored, and cost nothing
    assert [found[0] for found in tight.stored()] == ["s1"] * 7
    assert tight.post(rows(1, "s2")).headers["RateLimit"].startswith('"sensor";r=2')
    time.sleep(1)
    assert tight.post(rows(2, first=7)).status_code == 200


def test_the_older_form_and_metrics(tight: Tenant) -> None:
    answers = [
        tight.post({"sensor_id": "s1", "pH": 7, "temp": 9}, "/api/sensors/data") for _ in range(6)
    ]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert "RateLimit" in answers[0].headers
    assert (
        'headwater_rate_limited_total{limit="sensor"} 1.0' in tight.api.client.get("/metrics").text
    )


def test_a_gateway_is_not_limited_by_sensor(tight: Tenant) -> None:
    key = tight.key("integration")
    for first in range(20):
        answer = tight.post(rows(10, first=first * 10), key=key)
        assert answer.status_code == 200
        assert '"sensor"' not in answer.headers["RateLimit"]


def test_a_day_offline_is_caught_up(cache: Cache, serve: Callable[..., Api]) -> None:
    api = serve(REDIS_URL=cache.url)
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    for first in range(0, 86_400, 2_400):
        ts = [1_700_000_000 + first + n for n in range(2_400)]
        answer = tenant.post({"sensor": "s1", "ts": ts, "metrics": {"ph": [7.0] * 2_400}})
        assert answer.status_code == 200
    assert len(tenant.stored()) == 86_400


def test_limits_of_ones_own_hold_at_once(
    tight: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url("headwater_app"))
    key = tight.key("integration")
    prefix = key.split("_")[1]
    assert tight.post(rows(50), key=key).status_code == 200

    def limited(*words: str) -> None:
        done = CliRunner().invoke(rate, [*words, "--readings-per-second", "1", "--burst", "20"])
        assert done.exit_code == 0, done.output
        deadline = time.monotonic() + 5
        while f'"{words[0]}";q=20' not in tight.post(rows(1), key=key).headers["RateLimit-Policy"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    limited("key", prefix)
    assert tight.post(rows(15, first=50), key=key).status_code == 200
    refused = tight.post(rows(15, first=65), key=key)
    assert (refused.status_code, refused.json()["limit"]) == (429, "key")
    assert f"headwater rate key {prefix}" in refused.json()["detail"]
    assert CliRunner().invoke(rate, ["key", prefix]).exit_code == 0
    limited("tenant", tight.slug)
    assert tight.post(rows(15, first=65), key=key).status_code == 200
    assert tight.post(rows(15, first=80), key=key).json()["limit"] == "tenant"
    assert tight.slug in CliRunner().invoke(rate, ["list"]).output
    assert "no key nobody" in str(CliRunner().invoke(rate, ["key", "nobody"]).exception)


def test_a_limit_below_zero_is_refused(database: Database) -> None:
    for table in ("tenant", "api_key"):
        with pytest.raises(psycopg.errors.CheckViolation, match=f"{table}_rate_check"):
            values = {
                "tenant": "(slug, title, readings_per_second) values ('a', 'a', -1)",
                "api_key": "(role, title, prefix, secret_sha256, burst_readings)"
                " values ('super_admin', '', 'x', sha256('x'), 0)",
            }
            database.execute(f"insert into identity.{table} {values[table]}")


def test_status_says_where_the_limits_are(tight: Tenant, cache: Cache) -> None:
    def status() -> tuple[str, str]:
        found = tight.api.client.get("/api/status").json()
        return found["redis"], found["rate_limits"]

    def wait(expected: tuple[str, str]) -> None:
        deadline = time.monotonic() + 8
        while status() != expected:
            assert time.monotonic() < deadline, status()
            time.sleep(0.1)

    assert status() == ("connected", "redis")
    cache.kill9()
    started = time.monotonic()
    assert tight.post(rows(1)).status_code == 200
    assert time.monotonic() - started < 1
    wait(("disconnected", "in-process"))
    reasons = tight.api.client.get("/api/status").json()["reasons"]
    assert any(reason.startswith("rate limits:") for reason in reasons)
    cache.start()
    wait(("connected", "redis"))
    assert tight.post(rows(1, first=1)).status_code == 200


def test_nothing_is_said_of_redis_where_none_is_configured(serve: Callable[..., Api]) -> None:
    found = serve(**TIGHT).client.get("/api/status").json()
    assert (found["redis"], found["rate_limits"]) == ("not configured", "in-process")
    assert not any("rate" in reason for reason in found["reasons"])


async def test_replay_waits_as_long_as_it_is_told(tight: Tenant) -> None:
    ts = (np.arange(40) + 1_700_000_000) * SECOND
    series = Series(sensor="s1", metric="ph", unit="", ts=ts, values=np.full(40, 7.0))
    key = await asyncio.to_thread(tight.key)
    started = time.monotonic()
    totals = await replay([series], url=tight.api.url, key=key, batch=10)
    assert (totals.sent, totals.stored, totals.retries) == (40, 40, 1)
    assert time.monotonic() - started >= 1
