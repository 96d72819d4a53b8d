"""Clients that post without pause and keep a ledger, and the comparison of ledger and table.

Every reading that was acknowledged is written into the ledger, fsynced before the client goes on; what
got no answer or a 503 is sent again. Each batch belongs to a sensor of its own and holds one violation,
so that its latest reading and its alert can only come from that batch, whoever died when.
"""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from fix_server import Tenant

from app.db.pool import connect
from app.demo.compare import compare_rollups
from jobs.rollup import refresh_rollups

BATCH = 20
SENSORS = 4_000
CLIENTS = 3


class Fleet:
    """Clients that post without pause, and their ledger."""

    def __init__(self, tenant: Tenant, ledger: Path) -> None:
        self.tenant = tenant
        self.ledger = ledger
        self.numbers = itertools.count()
        self.now = int(datetime.now(UTC).timestamp())
        self.retries = 0
        self.acknowledged = 0
        self.failures: list[str] = []
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        tenant.key()
        tenant.make_threshold("ph", "high", 8)
        tenant.api.sql(
            "insert into telemetry.sensor (tenant_id, uid)"
            " select %s, 's' || n from generate_series(0, %s) as n",
            *(tenant.tenant_id, SENSORS),
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Post until the end of the block; then every batch begun is brought home."""
        threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in threads)
        assert not self.failures, self.failures

    def wait_for(self, more: int) -> None:
        """Until so many more batches are acknowledged."""
        target, deadline = self.acknowledged + more, time.monotonic() + 60
        while self.acknowledged < target:
            assert time.monotonic() < deadline, "the clients get nowhere"
            time.sleep(0.01)

    def keys(self) -> set[str]:
        """What the ledger holds."""
        return set(self.ledger.read_text().split())

    def _run(self) -> None:
        with self.ledger.open("a") as ledger:
            while not self._is_over.is_set():
                number = next(self.numbers)
                if number > SENSORS:
                    return
                try:
                    self._bring_home(number)
                except Exception as exc:
                    self.failures.append(repr(exc))
                    return
                keys = (f"s{number}/{ts}\n" for ts in self.times(number))
                ledger.write("".join(keys))
                ledger.flush()
                os.fsync(ledger.fileno())
                with self._lock:
                    self.acknowledged += 1

    def times(self, number: int) -> list[int]:
        """Every other batch is two hours old."""
        start = self.now - (7_200 if number % 2 else 0) - BATCH - number % 50
        return list(range(start, start + BATCH))

    def _bring_home(self, number: int) -> None:
        values = [7.0] * BATCH
        values[BATCH // 2] = 9.0
        body = {"sensor": f"s{number}", "ts": self.times(number), "metrics": {"ph": values}}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                answer = httpx.post(
                    f"{self.tenant.api.url}/api/v1/readings",
                    json=body,
                    headers=self.tenant.headers(),
                    timeout=10,
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                said = answer.json()
                assert said["stored"] + said["duplicate"] == BATCH, said
                return
            assert answer is None or answer.status_code == 503, answer.text
            with self._lock:
                self.retries += 1
            time.sleep(0.05)
        raise TimeoutError(f"batch {number} was never acknowledged")


def check(fleet: Fleet) -> None:
    """Ledger and table, both ways; latest readings, alerts and rollups from the table."""
    api = fleet.tenant.api
    acknowledged = fleet.keys()
    stored = [
        f"{uid}/{ts}"
        for uid, ts in api.sql(
            "select s.uid, extract(epoch from r.ts)::bigint from telemetry.reading as r"
            " join telemetry.sensor as s using (sensor_id)"
        )
    ]
    assert acknowledged - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert set(stored) - acknowledged == set()
    batches = len(stored) // BATCH

    behind = (
        "select count(*) from (select distinct on (sensor_id, metric_id) sensor_id, metric_id, ts, value"
        " from telemetry.reading order by sensor_id, metric_id, ts desc) as r"
        " full join telemetry.latest_reading as l using (sensor_id, metric_id, ts, value)"
        " where r.sensor_id is null or l.sensor_id is null"
    )
    eventually(lambda: api.sql(behind) == [(0,)])

    episodes = api.sql(
        "select count(*), count(distinct sensor_id), sum(reading_count) from alert.episode"
        " where state = 'resolved' and peak = 9"
    )
    assert episodes == [(batches, batches, batches)]
    api.sql("select alert.collect()")
    events = api.sql("select kind, count(*) from alert.outbox group by kind order by kind")
    assert events == [("raised", batches), ("resolved", batches)]

    async def compare() -> None:
        async with await connect(api.superuser_url, application="test") as connection:
            await refresh_rollups(connection, is_scheduled=False)
            rollups = await compare_rollups(connection)
        assert {name for name, rollup in rollups.items() if rollup.rows and rollup.equal_to_raw} == {
            "1m", "1h", "1d",
        }  # fmt: skip

    asyncio.run(compare())


def eventually(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    """Fail unless it holds soon."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
