"""Redis holds only what may vanish: without it everything works, and /api/status says so."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_database import Database
from fix_server import Api, environment_of, row, serving

from app.local.account import account_for
from app.local.credentials import free_port
from app.local.redis_server import RedisServer


@pytest.fixture
def redis() -> Iterator[tuple[RedisServer, int]]:
    with tempfile.TemporaryDirectory(prefix="headwater-redis-") as folder:
        home = Path(folder)
        home.chmod(0o777)
        server, port = RedisServer(home, account_for(home), home / "redis.log"), free_port()
        try:
            server.start(port=port, password="secret")
            yield server, port
        finally:
            server.stop()


def beat(api: Api) -> None:
    """A sign of life of the jobs, without which the status would be degraded anyway."""
    api.sql(
        "insert into ops.heartbeat (process, beaten_at) values ('jobs', now())"
        " on conflict (process) do update set beaten_at = excluded.beaten_at"
    )


def status(api: Api) -> dict[str, Any]:
    answer = api.client.get("/api/status")
    assert answer.status_code == 200
    return answer.json()  # type: ignore[no-any-return]


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_api_works_on_without_redis_says_so_and_takes_it_back(
    database: Database, redis: tuple[RedisServer, int]
) -> None:
    server, port = redis
    environment = environment_of(database) | {"REDIS_URL": f"redis://:secret@127.0.0.1:{port}/0"}
    with serving(environment, database.url()) as api:
        beat(api)
        tenant = api.make_tenant()
        tenant.make_sensor("s1")
        assert tenant.post(row(1)).json()["stored"] == 1
        eventually(lambda: status(api)["status"] == "healthy")
        assert status(api)["redis"] == "connected"

        server.kill9()
        for value in range(20):
            began = time.monotonic()
            assert tenant.post(row(value)).json()["stored"] == 1
            assert tenant.get("/api/v1/latest").status_code == 200
            assert time.monotonic() - began < 5
        eventually(lambda: status(api)["redis"] == "disconnected")
        said = status(api)
        assert (said["status"], said["db"]) == ("degraded", "connected")
        assert any("redis" in reason for reason in said["reasons"])

        server.start(port=port, password="secret")
        eventually(lambda: status(api)["redis"] == "connected")
        beat(api)
        eventually(lambda: status(api)["status"] == "healthy")
        assert tenant.post(row(2)).json()["stored"] == 1


def test_the_api_starts_without_redis(database: Database) -> None:
    environment = environment_of(database) | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with serving(environment, database.url()) as api:
        tenant = api.make_tenant()
        tenant.make_sensor("s1")
        assert tenant.post(row()).json()["stored"] == 1
        assert status(api)["redis"] == "disconnected"
