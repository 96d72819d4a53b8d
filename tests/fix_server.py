"""The real API over HTTP: a process of its own on a free port, on a migrated database of its own.

A server takes a second to start, so `api` is shared by a module and each test has a tenant of its own
(`tenant`). Tests that kill or configure the server make their own with `serve`.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fix_database import Database, Server

from app.db.pool import connect
from app.identity.key import create_key
from app.local.credentials import free_port

START_SECONDS = 20.0
NUMBERS = itertools.count(1)


class Api:
    """One API process (and its worker), which can be killed and started again on the same port."""

    def __init__(self, environment: Mapping[str, str], log: Path, *, superuser_url: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.superuser_url = superuser_url
        self.environment = {**os.environ, **environment, "HEADWATER_PORT": str(self.port)}
        self.environment["HEADWATER_STATE"] = str(log.parent)
        # else a killed one leaves its own behind
        metrics = log.parent / "metrics"
        metrics.mkdir()
        self.environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def start(self) -> "Api":
        """Start and wait until it answers."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from app.cli import main; main()", "serve"],
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/api/status", timeout=2).status_code:
                    return self
            except httpx.HTTPError:
                time.sleep(0.05)
        pytest.fail(f"the API did not answer:\n{self.log.read_text()}")

    def kill9(self) -> None:
        """End it and its workers without warning."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                pytest.fail(f"the API did not stop:\n{self.log.read_text()}")

    def close(self) -> None:
        """Over, whatever state it is in."""
        self.client.close()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return
            self.process.wait()

    def cpu_seconds(self) -> float:
        """Processor time that it and its workers have used: no matter what else the machine does."""
        assert self.process is not None
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[2]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """One statement as superuser."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def make_tenant(self, *, is_auto_register: bool = False) -> "Tenant":
        """A tenant nobody else uses."""
        slug = f"t{next(NUMBERS)}"
        ((tenant_id,),) = self.sql(
            "insert into identity.tenant (slug, title, is_auto_register) values (%s, %s, %s)"
            " returning tenant_id",
            *(slug, slug, is_auto_register),
        )
        return Tenant(self, tenant_id, slug)


class Tenant:
    """A tenant and an HTTP client that calls with its keys."""

    def __init__(self, api: Api, tenant_id: int, slug: str) -> None:
        self.api = api
        self.tenant_id = tenant_id
        self.slug = slug
        self.keys: dict[str, str] = {}

    def make_key(self, role: str = "device", sensors: list[str] | None = None) -> str:
        """A new key's text."""

        async def run() -> str:
            async with await connect(self.api.superuser_url, application="test") as connection:
                return await create_key(
                    connection,
                    tenant_id=None if role == "super_admin" else self.tenant_id,
                    role=role,
                    title="test",
                    sensor_uids=sensors,
                )

        return asyncio.run(run())

    def key(self, role: str = "device") -> str:
        """The tenant's key of a role, made on first use."""
        if role not in self.keys:
            self.keys[role] = self.make_key(role)
        return self.keys[role]

    def make_sensor(
        self, uid: str = "s1", *, site_id: int | None = None, status: str = "active"
    ) -> int:
        """A registered sensor's id."""
        ((sensor_id,),) = self.api.sql(
            "insert into telemetry.sensor (tenant_id, site_id, uid, status)"
            " values (%s, %s, %s, %s) returning sensor_id",
            *(self.tenant_id, site_id, uid, status),
        )
        return int(sensor_id)

    def make_site(self, code: str = "weir", region: str = "north") -> int:
        """A site's id."""
        ((site_id,),) = self.api.sql(
            "insert into telemetry.site (tenant_id, code, title, region) values (%s, %s, %s, %s)"
            " returning site_id",
            *(self.tenant_id, code, code.title(), region),
        )
        return int(site_id)

    def make_threshold(
        self, metric: str = "ph", side: str = "high", limit: float = 8, severity: str = "warning"
    ) -> int:
        """A limit for the whole tenant; its id."""
        ((threshold_id,),) = self.api.sql(
            "insert into alert.threshold (tenant_id, metric_id, severity, side, limit_value)"
            " select %s, m.metric_id, %s, %s, %s from telemetry.metric as m where m.code = %s"
            " returning threshold_id",
            *(self.tenant_id, severity, side, limit, metric),
        )
        return int(threshold_id)

    def headers(self, role: str = "device", key: str | None = None) -> dict[str, str]:
        """The Authorization header."""
        return {"Authorization": f"Bearer {key or self.key(role)}"}

    def get(self, path: str, *, role: str = "scientist", **params: Any) -> httpx.Response:
        """GET with the key of a role."""
        return self.api.client.get(path, params=params, headers=self.headers(role))

    def post(
        self,
        body: Any,
        path: str = "/api/v1/readings",
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """POST a document, or bytes as they are, with a device's key."""
        sent = {"json": body}
        if isinstance(body, bytes):
            sent = {"content": body}
        all_headers = {**self.headers(key=key), **(headers or {})}
        if isinstance(body, bytes) and "content-type" not in {name.lower() for name in all_headers}:
            all_headers["Content-Type"] = "application/json"
        return self.api.client.post(path, **sent, headers=all_headers)  # type: ignore[arg-type]

    def stored(self) -> list[tuple[str, str, datetime, float, int]]:
        """(sensor, metric, ts, value, quality) of every reading the tenant has, in order."""
        return self.api.sql(  # type: ignore[return-value]
            "select s.uid, m.code, r.ts, r.value, r.quality from telemetry.reading as r"
            " join telemetry.sensor as s using (sensor_id) join telemetry.metric as m using (metric_id)"
            " where s.tenant_id = %s order by s.uid, m.code, r.ts",
            self.tenant_id,
        )


def row(
    value: Any = 7.2, ts: Any = None, sensor: str = "s1", metric: str = "ph", **more: Any
) -> Any:
    """One reading as a row; now unless said otherwise."""
    when = now() if ts is None else ts
    return {"sensor": sensor, "ts": when, "metric": metric, "value": value} | more


def now() -> str:
    """RFC 3339."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def environment_of(database: Database) -> dict[str, str]:
    """The addresses that the API needs, role by role."""
    return {
        "DATABASE_URL": database.url("headwater_app"),
        "INGEST_DATABASE_URL": database.url("headwater_ingest"),
        "OWNER_DATABASE_URL": database.url(),
        "SQL_DATABASE_URL": database.url("headwater_sql"),
        "REDIS_URL": "",
    }


@contextmanager
def serving(environment: Mapping[str, str], superuser_url: str) -> Iterator[Api]:
    """An API with these settings, killed at the end."""
    with tempfile.TemporaryDirectory(prefix="headwater-api-") as folder:
        api = Api(environment, Path(folder) / "api.log", superuser_url=superuser_url)
        try:
            yield api.start()
        finally:
            api.close()


@pytest.fixture(scope="module")
def api(pg_server: Server, pg_template: str) -> Iterator[Api]:
    """An API for the module, with the settings' defaults."""
    database = Database(pg_server, pg_server.create(pg_template))
    try:
        with serving(environment_of(database), database.url()) as server:
            yield server
    finally:
        pg_server.drop(database.name)


@pytest.fixture
def tenant(api: Api) -> Tenant:
    """The test's own tenant, with the sensor s1."""
    made = api.make_tenant()
    made.make_sensor("s1")
    return made


@pytest.fixture
def serve(database: Database) -> Iterator[Callable[..., Api]]:
    """Starts an API of the test's own on the test's own database: `serve(INGEST_WRITERS="1")`."""
    contexts = []

    def start(**settings: str) -> Api:
        context = serving(environment_of(database) | settings, database.url())
        contexts.append(context)
        return context.__enter__()

    yield start
    for context in contexts:
        context.__exit__(None, None, None)
