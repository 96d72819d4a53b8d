"""Rate limits through the real API."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner
from fix_database import Database
from fix_redis import Cache
from fix_server import Api, Tenant, row

from app.rate.cli import rate
from app.replay.send import replay
from app.replay.series import SECOND, Series

PATIENT = {"RATE_REDIS_TIMEOUT_MS": "5000"}
"""A busy machine's Redis answers late; the limits are to be its all the same."""
TIGHT = PATIENT | {
    "RATE_SENSOR_REQUESTS_PER_SECOND": "1",
    "RATE_SENSOR_BURST": "3",
    "RATE_SENSOR_CATCH_UP_READINGS": "5",
}


def settled(api: Api) -> None:
    """Wait until the limits are Redis's."""
    deadline = time.monotonic() + 5
    while api.client.get("/api/status").json()["rate_limits"] != "redis":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def tight(cache: Cache, serve: Callable[..., Api]) -> Tenant:
    """A tenant of an API with narrow limits on sensors."""
    api = serve(REDIS_URL=cache.url, **TIGHT)
    settled(api)
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
    api = serve(REDIS_URL=cache.url, **PATIENT)
    settled(api)
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
    assert time.monotonic() - started < 5  # not even one time-out
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
