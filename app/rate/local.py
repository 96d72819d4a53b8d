"""The same buckets as `bucket.lua`, in this process's memory.

They serve where no Redis is configured, and in full. While a configured Redis is away they stand in for
it with a share of what is permitted: other processes do the same, and none knows what the others gave
away. A sensor's own pace of requests is kept in full, or else ordinary senders would be refused.
Memory is bounded: full buckets are forgotten, and beyond MOST the fullest of the others, too.
"""

import time
from collections.abc import Callable

from app.rate.ask import GROUP, Answer, Ask, SensorRates

MOST = 300_000
"""Buckets kept; about 150 bytes each."""
MOST_NAMED = 10
"""Refused sensors that an answer names."""
SLACK = 0.001
"""Of a token, against rounding."""

Name = tuple[str | float, ...]
"""Kind and id; of keys and tenants their limits, too: whoever gets others begins with a full bucket."""


class LocalBuckets:
    """Buckets of one process; `share` is the part of the limits it may give away."""

    def __init__(
        self,
        sensor: SensorRates,
        *,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST,
    ) -> None:
        self._request = _Bucket(
            sensor.request_us, max(sensor.request_us, sensor.request_burst_us * share)
        )
        # fewer tokens that come back as much more slowly: a full bucket takes as long as ever
        self._catch_up = _Bucket(sensor.catch_up_us / share, sensor.catch_up_burst_us)
        self._share = share
        self._clock = clock
        self._most = most
        self._full_at: dict[Name, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, ask: Ask) -> Answer:
        """Grant or refuse one request."""
        now = self._clock() * 1_000_000
        if len(self._full_at) > self._most:
            self._forget(now)
        taken: dict[Name, float] = {}
        tenant = _Bucket(ask.tenant_us / self._share, ask.tenant_burst_us)
        key = _Bucket(ask.key_us / self._share, ask.key_burst_us)
        tenant_name = ("t", ask.tenant_id, ask.tenant_us, ask.tenant_burst_us)
        key_name = ("k", ask.key_id, ask.key_us, ask.key_burst_us)
        tenant.full_at = self._full_at_of(tenant_name, now)
        key.full_at = self._full_at_of(key_name, now)
        wait_tenant, wait_key = tenant.wait(ask.readings, now), key.wait(ask.readings, now)
        wait_sensor, least, least_catch_up, refused = self._sensors(ask, now, taken)
        if not (wait_tenant or wait_key or wait_sensor):
            for name, bucket in ((tenant_name, tenant), (key_name, key)):
                if bucket.token_us:
                    bucket.full_at += ask.readings * bucket.token_us
                    taken[name] = bucket.full_at
            self._full_at.update(taken)
        return Answer(
            wait_tenant,
            wait_key,
            wait_sensor,
            tenant.left(now),
            key.left(now),
            least,
            least_catch_up,
            refused,
        )

    def _full_at_of(self, name: Name, now: float) -> float:
        return max(self._full_at.get(name, 0.0), now)

    def _sensors(
        self, ask: Ask, now: float, taken: dict[Name, float]
    ) -> tuple[float, int, int, list[int]]:
        """The longest wait, the fewest requests and catch-up readings left, and who is refused."""
        longest, least, least_catch_up = 0.0, -1, -1
        refused: list[int] = []
        request, catch_up = self._request, self._catch_up
        for group_no, members, counts in ask.parts:
            for member, count in zip(members, counts, strict=True):
                sensor_id = group_no * GROUP + member
                request.full_at = self._full_at_of(("s", sensor_id), now)
                wait = request.wait(1, now)
                if not wait:
                    request.full_at += request.token_us
                    taken["s", sensor_id] = request.full_at
                elif catch_up.token_us:
                    catch_up.full_at = self._full_at_of(("c", sensor_id), now)
                    if catch_up.full_at + count * catch_up.token_us <= now + catch_up.fill_us:
                        wait = 0.0
                        catch_up.full_at += count * catch_up.token_us
                        taken["c", sensor_id] = catch_up.full_at
                    left = catch_up.left(now)
                    least_catch_up = left if least_catch_up < 0 else min(least_catch_up, left)
                if wait:
                    longest = max(longest, wait)
                    if len(refused) < MOST_NAMED:
                        refused.append(sensor_id)
                left = request.left(now)
                least = left if least < 0 else min(least, left)
        return longest, least, least_catch_up, refused

    def _forget(self, now: float) -> None:
        """Drop what is full, and more where that does not suffice."""
        kept = {name: at for name, at in self._full_at.items() if at > now}
        if len(kept) > self._most // 2:
            emptiest = sorted(kept.items(), key=lambda item: item[1], reverse=True)
            kept = dict(emptiest[: self._most // 2])
        self._full_at = kept


class _Bucket:
    """One bucket under consideration."""

    __slots__ = ("fill_us", "full_at", "token_us")

    def __init__(self, token_us: float, fill_us: float) -> None:
        self.token_us = token_us
        self.fill_us = fill_us
        self.full_at = 0.0

    def wait(self, tokens: int, now: float) -> float:
        """Microseconds until they are there; more than a whole bucket waits for a full one."""
        if not self.token_us:
            return 0.0
        missing = self.full_at + min(tokens * self.token_us, self.fill_us) - now - self.fill_us
        return missing if missing > self.token_us * SLACK else 0.0

    def left(self, now: float) -> int:
        """Whole tokens in it; -1 without a limit."""
        if not self.token_us:
            return -1
        return max(0, int((now + self.fill_us - self.full_at) / self.token_us + SLACK))
