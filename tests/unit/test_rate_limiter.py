"""The limiter without Redis: what it asks of the buckets for a resolved request."""

import numpy as np
import pytest

from app.errors import RateLimited
from app.identity.permission import Principal
from app.ingest.columns import Columns
from app.ingest.verdict import Verdict
from app.rate.limiter import MOST_SENSORS, Limiter
from app.settings import Settings

DEVICE = Principal(
    name="ab12", api_key_id=1, tenant_id=1, role="device", sensor_ids=None, is_auto_register=False
)


def request(sensors: int, *, each: int = 1, rejected: int = 0) -> Columns:
    """Readings of so many sensors; rejected ones besides."""
    sensor_no = np.repeat(np.arange(sensors, dtype=np.int32), each)
    n = len(sensor_no)
    return Columns(
        sensors=[f"s{number}" for number in range(sensors)],
        channels=[("ph", None)],
        sensor_no=sensor_no,
        channel_no=np.zeros(n, dtype=np.int32),
        ts=np.arange(n, dtype=np.int64),
        value=np.zeros(n),
        index=np.arange(n, dtype=np.int64),
        rejected=[Verdict(n + number, "rejected") for number in range(rejected)],
        sensor_ids=np.arange(sensors, dtype=np.int64) + 100,
    )


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(Settings(rate_sensor_burst=1, rate_sensor_catch_up_readings=0))


async def test_rejected_readings_count_for_the_key_but_for_no_sensor(limiter: Limiter) -> None:
    fields = await limiter.take(DEVICE, request(0, rejected=7))
    assert fields["RateLimit"] == '"key";r=999993, "tenant";r=19999993'


async def test_a_refusal_names_sensors_by_uid(limiter: Limiter) -> None:
    await limiter.take(DEVICE, request(3))
    with pytest.raises(RateLimited) as refused:
        await limiter.take(DEVICE, request(3, each=2))
    assert refused.value.extra["sensors"] == ["s0", "s1", "s2"]


async def test_a_request_for_very_many_sensors_is_a_gateways(limiter: Limiter) -> None:
    for _ in range(3):
        fields = await limiter.take(DEVICE, request(MOST_SENSORS + 1))
        assert '"sensor"' not in fields["RateLimit"]


async def test_no_limit_at_all_asks_nobody_and_says_nothing() -> None:
    free = Settings(
        rate_sensor_requests_per_second=0,
        rate_device_readings_per_second=0,
        rate_tenant_readings_per_second=0,
    )
    assert await Limiter(free).take(DEVICE, request(1)) == {}
