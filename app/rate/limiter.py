"""Asks the buckets before anything is written; what is too much is refused at once, never queued.

Invariants
- A request is granted whole or refused whole; a refused one consumes nothing.
- Requests that arrive while a call is on its way to Redis go together in the next: one round trip for
  all of them, no timer. A call is bounded, so that Redis is not held for long.
- Redis gone or slow: the calls waiting are decided by the process's own buckets at once, and so is
  every later one, without asking Redis, until a try each second in the background succeeds. At most
  `rate_redis_timeout_ms` are lost, once, by what was on its way.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import numpy as np
import structlog
from msgspec import structs

from app.identity.permission import Principal
from app.ingest.columns import Columns
from app.ops.metrics import RATE_LIMITED
from app.rate.ask import Answer, Ask, Part, parts
from app.rate.fields import headers, refusal
from app.rate.local import LocalBuckets
from app.rate.policy import Policies, sensor_rates
from app.rate.shared import AWAY, SharedBuckets
from app.settings import Settings

log = structlog.get_logger()

CALL_ASKS = 256
CALL_SENSORS = 1_000
"""Most requests, and sensors unless one request has more, in one call: some milliseconds."""
MOST_SENSORS = 5_000
"""A request for more sensors is a gateway's, whatever its key: Redis is not held for a list that long."""
TRY_SECONDS = 1.0
"""Pause between tries while Redis is away."""
STAND_IN_WAIT_US = 10_000_000
"""Longest wait that is told while Redis is away: its buckets, back any second, may hold far more."""

Waiting = tuple[Ask, asyncio.Future[Answer]]


class Limiter:
    """The process's token buckets, wherever they are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policies = Policies(settings)
        sensor = sensor_rates(settings)
        self._shared = (
            SharedBuckets(settings.redis_url, sensor, timeout=settings.rate_redis_timeout_ms / 1000)
            if settings.redis_url
            else None
        )
        self._local = LocalBuckets(
            sensor, share=settings.rate_in_process_share if settings.redis_url else 1.0
        )
        self._waiting: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_connected = False

    @property
    def mode(self) -> Literal["redis", "in-process"]:
        """Where the buckets are at the moment."""
        return "redis" if self._is_connected else "in-process"

    def start(self) -> None:
        """Connect to Redis in the background."""
        if self._shared is not None:
            self._task = asyncio.create_task(self._run(self._shared), name="rate-limiter")

    async def stop(self) -> None:
        """Hang up; whoever still waits is decided here."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._is_connected = False
        self._decide_here(self._waiting)
        self._waiting.clear()
        if self._shared is not None:
            with suppress(*AWAY):
                await self._shared.close()

    async def take(self, principal: Principal, columns: Columns) -> dict[str, str]:
        """Take tokens for a resolved request and return its RateLimit fields. Raises RateLimited.

        Rejected readings count for the key and the tenant: they were work, too.
        """
        policy = self._policies.of(principal)
        if policy.is_unlimited:
            return {}
        readings = len(columns.index) + len(columns.rejected)
        is_by_sensor = policy.has_sensor_limit and len(columns.sensors) <= MOST_SENSORS
        ask = policy.ask(principal, max(1, readings), sensor_parts(columns) if is_by_sensor else [])
        answer = await self.ask(ask)
        if answer.is_granted:
            return headers(policy, answer)
        uids = dict(zip(columns.sensor_ids.tolist(), columns.sensors, strict=True))
        sensors = [uids[sensor_id] for sensor_id in answer.refused]
        problem = refusal(
            policy,
            answer,
            principal=principal,
            settings=self._settings,
            sensors=sensors,
            readings=readings,
        )
        RATE_LIMITED.labels(problem.extra["limit"]).inc()
        raise problem

    async def ask(self, ask: Ask) -> Answer:
        """The answer of whichever buckets are in charge."""
        if not self._is_connected:
            return self._here(ask)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, future))
        self._wake.set()
        return await future

    async def _run(self, shared: SharedBuckets) -> None:
        while True:
            await self._connect(shared)
            await self._serve(shared)

    async def _connect(self, shared: SharedBuckets) -> None:
        """Try until Redis runs the script."""
        while True:
            try:
                await shared.take(())
            except AWAY as exc:
                log.debug("rate_limits_without_redis", error=str(exc) or type(exc).__name__)
            else:
                self._is_connected = True
                log.info("rate_limits_in_redis")
                return
            await asyncio.sleep(TRY_SECONDS)

    async def _serve(self, shared: SharedBuckets) -> None:
        """Pass requests on until Redis fails."""
        while True:
            await self._wake.wait()
            group = self._next_group()
            if not group:
                continue
            try:
                answers = await shared.take([ask for ask, _ in group])
            except AWAY as exc:
                self._is_connected = False
                log.warning("rate_limits_in_process", error=str(exc) or type(exc).__name__)
                self._decide_here([*group, *self._waiting])
                self._waiting.clear()
                self._wake.clear()
                return
            except asyncio.CancelledError:
                self._is_connected = False
                self._decide_here(group)
                raise
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():  # whoever asked may be gone
                    future.set_result(answer)

    def _next_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        sensors = 0
        while self._waiting and len(group) < CALL_ASKS:
            ask, future = self._waiting[0]
            sensors += sum(len(part[1]) for part in ask.parts)
            if group and sensors > CALL_SENSORS:
                break
            self._waiting.popleft()
            if not future.done():
                group.append((ask, future))
        if not self._waiting:
            self._wake.clear()
        return group

    def _decide_here(self, waiting: Sequence[Waiting] | deque[Waiting]) -> None:
        for ask, future in waiting:
            if not future.done():
                future.set_result(self._here(ask))

    def _here(self, ask: Ask) -> Answer:
        answer = self._local.take(ask)
        if self._shared is None or answer.is_granted:
            return answer
        return structs.replace(
            answer,
            wait_tenant_us=min(answer.wait_tenant_us, STAND_IN_WAIT_US),
            wait_key_us=min(answer.wait_key_us, STAND_IN_WAIT_US),
            wait_sensor_us=min(answer.wait_sensor_us, STAND_IN_WAIT_US),
        )


def sensor_parts(columns: Columns) -> list[Part]:
    """How many readings of which sensors a resolved request brings."""
    if len(columns.sensors) == 1:
        counts = [len(columns.sensor_no)]
    else:
        counts = np.bincount(columns.sensor_no, minlength=len(columns.sensors)).tolist()
    return parts(columns.sensor_ids.tolist(), counts)
