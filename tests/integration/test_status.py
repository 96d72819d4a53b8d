"""Status and metrics tell the truth, quickly, whatever is down."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from fix_database import Database
from fix_server import Api, Tenant, environment_of, row, serving

from app.local.credentials import free_port
from app.local.temporary import temporary
from app.migrate import migrate


def status(api: Api) -> tuple[int, dict[str, Any]]:
    started = time.monotonic()
    answer = api.client.get("/api/status")
    assert time.monotonic() - started < 3
    return answer.status_code, answer.json()


def settled(api: Api, name: str, value: object, seconds: float = 10) -> dict[str, Any]:
    """The status once a part is as it should become."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = status(api)[1]
        if found[name] == value:
            return found
        time.sleep(0.2)
    pytest.fail(f"{name} did not become {value}: {found}")


def beat(api: Api, age: str = "0 s") -> None:
    api.sql(
        "insert into ops.heartbeat (process, beaten_at) values ('jobs', now() - %s::interval)"
        " on conflict (process) do update set beaten_at = excluded.beaten_at",
        age,
    )


def metrics(api: Api) -> dict[str, float]:
    text = api.client.get("/metrics").text
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@contextmanager
def command(*words: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "from app.cli import main; main()", *words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# status


def test_the_workers_live_by_their_heartbeat(serve: Callable[..., Api]) -> None:
    api = serve()
    code, never = status(api)
    assert (code, never["status"], never["workers"]) == (200, "degraded", "stopped")
    assert any("headwater jobs" in reason for reason in never["reasons"])
    beat(api)
    alive = settled(api, "workers", "running")
    assert (alive["status"], alive["db"], alive["redis"]) == (
        "healthy",
        "connected",
        "not configured",
    )
    assert alive["reasons"] == [] and alive["workers_age_seconds"] < 10
    assert alive["edition"] in ("apache", "community") and alive["timescaledb"] and alive["server"]
    beat(api, "31 s")
    assert settled(api, "workers", "stopped")["status"] == "degraded"


def test_parts_that_die_are_said_and_said_to_be_back() -> None:
    """The only test with servers of its own: it kills them."""
    import asyncio

    with temporary() as runtime:
        asyncio.run(migrate(runtime.superuser_url))
        with serving(runtime.environment(), runtime.superuser_url) as api:
            beat(api)
            assert settled(api, "status", "healthy")["redis"] == "connected"
            runtime.kill9_redis()
            without = settled(api, "redis", "disconnected")
            assert without["status"] == "degraded"
            assert any(reason.startswith("redis") for reason in without["reasons"])
            runtime.kill9_postgres()
            down = settled(api, "db", "disconnected")
            assert (down["status"], down["workers"]) == ("unhealthy", "stopped")
            assert status(api)[0] == 503
            assert api.client.get("/docs").status_code == 200
            runtime.start()
            back = settled(api, "db", "connected", 20)
            assert back["redis"] == "connected"
            beat(api)
            assert settled(api, "status", "healthy", 20)["live"]["status"] == "running"


def test_an_api_may_start_before_its_database(database: Database) -> None:
    environment = environment_of(database) | {
        "DATABASE_URL": f"postgresql://nobody:x@127.0.0.1:{free_port()}/nothing"
    }
    with serving(environment, database.url()) as api:
        code, found = status(api)
        assert (code, found["status"]) == (503, "unhealthy")
        answer = api.client.get("/api/v1/sites", headers={"Authorization": "Bearer hw_x_y"})
        assert answer.status_code == 503 and "retry-after" in answer.headers
        assert "can't be reached" in api.log.read_text()


# metrics


def test_metrics_count_requests_by_route_and_readings_by_verdict(serve: Callable[..., Api]) -> None:
    api = serve()
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    first = row(7.2, "2026-06-01T00:00:00Z")
    tenant.post([first, first])
    tenant.post([first])
    for number in (1, 2, 3):
        tenant.get(f"/api/v1/alerts/{number}")
    api.client.get("/no/such/path")
    api.client.get("/no/other/path")
    found = metrics(api)
    requests = "headwater_http_requests_total"
    alerts = "/api/v1/alerts/{episode_id}"
    assert found[f'{requests}{{method="POST",route="/api/v1/readings",status="200"}}'] == 2
    assert found[f'{requests}{{method="GET",route="{alerts}",status="404"}}'] == 3
    assert found[f'{requests}{{method="GET",route="unknown",status="404"}}'] == 2
    timed = "headwater_http_request_seconds_count"
    assert found[f'{timed}{{method="GET",route="{alerts}"}}'] == 3
    assert found['headwater_readings_total{verdict="stored"}'] == 1
    assert found['headwater_readings_total{verdict="duplicate"}'] == 2
    assert found["headwater_ingest_queue_readings"] == 0


def test_no_metric_names_a_sensor_or_tenant(api: Api, tenant: Tenant) -> None:
    tenant.get("/api/v1/readings", sensor="s1")
    labels = set(re.findall(r'(\w+)="', api.client.get("/metrics").text))
    assert labels <= {"method", "route", "status", "verdict", "kind", "le"}


def test_any_of_several_workers_answers_for_all(database: Database) -> None:
    port = free_port()
    environment = environment_of(database) | {"HEADWATER_PORT": str(port)}
    with serving(environment, database.url()) as single:
        single.stop()
        with command("serve", "--workers", "2", environment=single.environment):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    single.client.get("/api/status")
                    break
                except Exception:
                    time.sleep(0.1)
            for _ in range(40):
                # a connection each, so that both workers get some
                single.client.get("/problems", headers={"Connection": "close"})
            name = 'headwater_http_requests_total{method="GET",route="/problems",status="200"}'
            assert {metrics(single)[name] for _ in range(5)} == {40}


# serve's own refusals: one line and exit status 1


def test_a_port_in_use_is_said_in_one_line(api: Api) -> None:
    with command("serve", environment=dict(api.environment)) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(error.splitlines()) == 1 and str(api.port) in error and "in use" in error


def test_a_database_behind_the_code_is_said_in_one_line(empty_database: Database) -> None:
    environment = environment_of(empty_database) | {
        "DATABASE_URL": empty_database.url(),
        "HEADWATER_PORT": str(free_port()),
    }
    with command("serve", environment=environment) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(error.splitlines()) == 1 and "headwater migrate" in error
