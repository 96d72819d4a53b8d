"""The buckets in Redis: any number of requests in one round trip.

Redis' memory may be empty at any time: buckets are then full, and the script is loaded again. A lost
connection is made anew once within the call's time-out; a second failure is the caller's to handle.
The keys are computed by the script, so this needs one Redis (or Sentinel), not a Redis Cluster.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, RedisError

from app.rate.ask import Answer, Ask, SensorRates

SCRIPT = (Path(__file__).parent / "bucket.lua").read_bytes()
SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()  # as EVALSHA wants it

SENSOR_SECONDS = 0.000_02
"""What the time-out grants for each sensor on top: five times what the script needs."""

AWAY = (RedisError, OSError, TimeoutError, msgspec.MsgspecError)
"""What any failure of Redis looks like."""

ENCODER = msgspec.msgpack.Encoder()
ANSWERS = msgspec.msgpack.Decoder(list[Answer], strict=False)


class SharedBuckets:
    """Buckets that all API processes share."""

    def __init__(self, redis_url: str, sensor: SensorRates, *, timeout: float) -> None:
        self._sensor = sensor
        self._timeout = timeout
        # the deadline is ours, over the whole call; a try again is ours, too
        self._redis: Any = Redis.from_url(
            redis_url,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
            max_connections=2,
            client_name="headwater-rate",
        )

    async def take(self, asks: Sequence[Ask]) -> list[Answer]:
        """Grant or refuse each. Raises one of AWAY."""
        data = ENCODER.encode((self._sensor, asks))
        sensors = sum(len(part[1]) for ask in asks for part in ask.parts)
        async with asyncio.timeout(self._timeout + sensors * SENSOR_SECONDS):
            try:
                answer = await self._call(data)
            except ConnectionLost:
                answer = await self._call(data)
        return ANSWERS.decode(answer)

    async def _call(self, data: bytes) -> bytes:
        try:
            return bytes(await self._redis.execute_command("EVALSHA", SHA, 0, data))
        except NoScriptError:
            return bytes(await self._redis.execute_command("EVAL", SCRIPT, 0, data))

    async def close(self) -> None:
        """Hang up."""
        await self._redis.aclose()
