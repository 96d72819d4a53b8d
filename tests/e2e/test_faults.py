"""Killed in the middle of ingest: nothing acknowledged is missing, nothing is there twice."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from fix_ledger import Fleet, check, eventually
from fix_server import Api, row, serving

from app.local.runtime import Runtime
from app.local.temporary import temporary
from app.migrate import migrate


def test_the_api_killed_during_ingest(serve: Callable[..., Api], tmp_path: Path) -> None:
    api = serve()
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    with fleet.running():
        for _ in range(3):
            fleet.wait_for(60)
            api.kill9()
            time.sleep(0.1)
            api.start()
        fleet.wait_for(30)
    assert fleet.retries > 0
    check(fleet)


@pytest.fixture
def crashing() -> Iterator[tuple[Runtime, Api]]:
    """An API on a cluster of its own that does fsync."""
    with temporary(settings={"fsync": "on"}, with_redis=False) as own:
        asyncio.run(migrate(own.superuser_url))
        with serving(own.environment(), own.superuser_url) as api:
            yield own, api


def test_the_database_killed_during_ingest(crashing: tuple[Runtime, Api], tmp_path: Path) -> None:
    own, api = crashing
    assert api.sql("show fsync") == [("on",)]
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    with fleet.running():
        for _ in range(2):
            fleet.wait_for(60)
            own.kill9_postgres()
            eventually(lambda: httpx.get(f"{api.url}/api/status").status_code == 503)
            answer = fleet.tenant.post(row())
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            own.start()
        fleet.wait_for(60)
    assert "writer_lost_connection" in api.log.read_text()
    eventually(lambda: httpx.get(f"{api.url}/api/status").json()["db"] == "connected")
    check(fleet)


def test_one_backend_killed_during_ingest(crashing: tuple[Runtime, Api], tmp_path: Path) -> None:
    """PostgreSQL restarts all backends then, as after any crash of one."""
    _, api = crashing
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    with fleet.running():
        for application in ("headwater-writer", "headwater-latest"):
            fleet.wait_for(40)
            eventually(lambda application=application: bool(backends(api, application)))
            os.kill(backends(api, application)[0], 9)
            eventually(lambda: answers(api))
        fleet.wait_for(40)
    check(fleet)


def backends(api: Api, application: str) -> list[int]:
    """The server's processes behind those connections."""
    rows = api.sql("select pid from pg_stat_activity where application_name = %s", application)
    return [pid for (pid,) in rows]


def answers(api: Api) -> bool:
    """Whether the server lets anybody in."""
    try:
        return api.sql("select 1") == [(1,)]
    except psycopg.OperationalError:
        return False
