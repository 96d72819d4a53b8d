"""Nodes of a distributed server killed in the middle of ingest, on both roads, and frozen.

Nothing acknowledged is missing, nothing is there twice; only what lies on a node that is away fails, at
once and by name; all goes on without hands when it is back.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fix_database import Database, Node, Server, make_template, running
from fix_ledger import Fleet, check, eventually
from fix_replica import frozen
from fix_server import Api, Tenant, environment_of, row, serving

from app.settings import Settings
from jobs.scheduler import JOBS, run_once

pytestmark = pytest.mark.citus
ROADS = ("direct", "coordinator")
SENSORS = 8


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, str]]:
    """A coordinator and two workers that may be killed, and a template on them."""
    with running(workers=2) as server:
        yield server, make_template(server)


@pytest.fixture
def own(servers: tuple[Server, str]) -> Iterator[Database]:
    """A database of the test's own; afterwards every node is up."""
    server, template = servers
    database = Database(server, server.create(template))
    yield database
    for node in server.nodes:
        if node.cluster.pid is None:
            node.start()
    forget_prepared(database)
    server.drop(database.name)


@pytest.fixture(params=ROADS)
def api(own: Database, request: pytest.FixtureRequest) -> Iterator[Api]:
    """An API on it, by either road."""
    with serving(environment_of(own) | {"INGEST_ROAD": request.param}, own.url()) as server:
        yield server


def forget_prepared(database: Database) -> None:
    """A test that failed may leave some behind, and then nothing can be dropped."""
    for node in database.server.nodes:
        mine = "select gid from pg_prepared_xacts where database = current_database()"
        for (gid,) in node.execute(mine, database.name):
            with suppress(psycopg.Error):
                node.execute(f"rollback prepared '{gid}'", database.name)


def prepared(database: Database) -> int:
    """Transactions that some node has prepared and nobody has ended."""
    mine = "select gid from pg_prepared_xacts where database = current_database()"
    return sum(len(node.execute(mine, database.name)) for node in database.server.nodes)


@contextmanager
def away(node: Node) -> Iterator[None]:
    """The node is dead meanwhile."""
    node.kill9()
    try:
        yield
    finally:
        node.start()


class Split:
    """A tenant with sensors on both workers."""

    def __init__(self, api: Api, node: Node) -> None:
        self.tenant = api.make_tenant(is_auto_register=True)
        for number in range(SENSORS):
            self.tenant.make_sensor(f"s{number}")
        self.tenant.make_threshold("ph", "high", 8)
        for role in ("device", "scientist", "admin"):
            self.tenant.key(role)
        places = dict(
            api.sql(
                "select s.uid, d.nodeport from telemetry.sensor as s"
                " join pg_dist_placement as p on p.shardid ="
                " get_shard_id_for_distribution_column('telemetry.reading', s.sensor_id)"
                " join pg_dist_node as d using (groupid) where s.tenant_id = %s",
                self.tenant.tenant_id,
            )
        )
        self.there = sorted(uid for uid, port in places.items() if port == node.port)
        self.elsewhere = sorted(uid for uid, port in places.items() if port != node.port)
        assert self.there and self.elsewhere

    def post(self, uids: list[str], value: float = 7.0) -> httpx.Response:
        """One reading of each, now."""
        return self.tenant.post([row(value, sensor=uid) for uid in uids])


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["type"]).rpartition("/")[2]


def verdicts(answer: httpx.Response) -> dict[int, str]:
    return {one["index"]: one["verdict"] for one in answer.json()["verdicts"]}


def run_job(database: Database, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in environment_of(database).items():
        monkeypatch.setenv(variable, text)
    job = next(job for job in JOBS if job.name == name)
    assert asyncio.run(run_once(Settings.from_env(), job))


def put_threshold(tenant: Tenant, limit: float) -> httpx.Response:
    body = {"metric": "ph", "severity": "critical", "side": "high", "limit": limit}
    headers = tenant.headers("admin")
    return tenant.api.client.put("/api/v1/thresholds", json=body, headers=headers)


def settled(api: Api, fleet: Fleet, own: Database) -> None:
    """What a death left half done is ended by itself, and then all is as the data demand."""
    eventually(lambda: prepared(own) == 0, seconds=40)
    check(fleet)
    assert "unexpected_error" not in api.log.read_text()


def test_a_worker_killed_during_ingest(api: Api, own: Database, tmp_path: Path) -> None:
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    with fleet.running():
        for worker in own.server.workers:
            fleet.wait_for(40)
            with away(worker):
                time.sleep(1)
        fleet.wait_for(40)
    assert fleet.retries > 0
    settled(api, fleet, own)


def test_the_coordinator_killed_during_ingest(api: Api, own: Database, tmp_path: Path) -> None:
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    with fleet.running():
        fleet.wait_for(40)
        with away(own.server):
            time.sleep(1)  # less than a request waits for the catalogue
        fleet.wait_for(40)
    settled(api, fleet, own)


def test_the_api_killed_during_ingest(api: Api, own: Database, tmp_path: Path) -> None:
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    with fleet.running():
        for _ in range(2):
            fleet.wait_for(40)
            api.kill9()
            api.start()
        fleet.wait_for(30)
    assert fleet.retries > 0
    settled(api, fleet, own)


def test_a_dead_worker_costs_its_own_sensors_only(
    api: Api, own: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = own.server.workers[0]
    split = Split(api, node)
    tenant, there, elsewhere = split.tenant, split.there, split.elsewhere
    everyone = [*there, *elsewhere]
    assert split.post(everyone).status_code == 200
    began = time.monotonic()
    with away(node):
        mixed = split.post(everyone)
        assert problem(mixed) == (503, "partly-stored")
        assert mixed.json()["stored"] == len(elsewhere)
        assert verdicts(mixed) == dict.fromkeys(range(len(there)), "unavailable")
        assert problem(split.post(there)) == (503, "unavailable")
        assert split.post(elsewhere).status_code == 200

        # a new sensor needs every node; the batch it comes in does not
        fresh = split.post([elsewhere[0], "unheard-of"])
        assert problem(fresh) == (503, "partly-stored")
        assert (fresh.json()["stored"], verdicts(fresh)) == (1, {1: "unavailable"})

        for path, more in {
            "/api/v1/latest": {},
            "/api/v1/readings": {},
            "/api/v1/readings?": {"resolution": "1h"},
        }.items():
            answer = tenant.get(path.rstrip("?"), sensor=elsewhere[0], **more)
            assert answer.status_code == 200, (path, answer.text)
            refused = tenant.get(path.rstrip("?"), sensor=f"{elsewhere[0]},{there[0]}", **more)
            assert problem(refused) == (503, "node-unavailable")
            assert refused.json()["sensors"] == [there[0]]
            assert f"127.0.0.1:{node.port}" in refused.json()["detail"]
        assert problem(put_threshold(tenant, 9)) == (503, "node-unavailable")

        status = api.client.get("/api/status").json()
        assert (status["status"], status["db"]) == ("degraded", "connected")
        eventually(lambda: "disconnected" in str(api.client.get("/api/status").json()["nodes"]))

        assert split.post(elsewhere, 9.0).status_code == 200
        for name in ("sweep_alerts", "tidy", "refresh_rollups"):
            run_job(own, name, monkeypatch)
        raised = "select count(*) from alert.outbox where kind = 'raised'"
        assert api.sql(raised) == [(len(elsewhere),)]
    assert time.monotonic() - began < 30

    eventually(lambda: split.post(everyone).status_code == 200)
    eventually(lambda: split.post(there, 9.0).status_code == 200)
    assert tenant.get("/api/v1/latest", sensor=",".join(there)).status_code == 200
    run_job(own, "sweep_alerts", monkeypatch)
    assert api.sql(raised) == [(len(everyone),)]
    assert api.sql("select count(*) from alert.threshold where limit_value = 9") == [(0,)]
    assert put_threshold(tenant, 9).status_code in (200, 201)
    assert split.post(["unheard-of"]).status_code == 200
    assert "unexpected_error" not in api.log.read_text()


def test_alerts_of_the_living_are_told_while_a_worker_is_dead(own: Database) -> None:
    node = own.server.workers[0]
    with serving(environment_of(own), own.url()) as api:
        split = Split(api, node)
        assert split.post([*split.there, *split.elsewhere]).status_code == 200
        told: list[str] = []
        with (
            away(node),
            httpx.stream(
                "GET",
                f"{api.url}/api/v1/live/sse",
                headers=split.tenant.headers("scientist"),
                timeout=25,
            ) as stream,
        ):
            lines = stream.iter_lines()
            next(lines)
            assert split.post(split.elsewhere, 9.0).status_code == 200
            for line in lines:
                told += [line] if '"raised"' in line else []
                if len(told) == len(split.elsewhere):
                    break
        assert all(any(f'"{uid}"' in line for line in told) for uid in split.elsewhere)


def test_a_frozen_worker_is_given_up_in_time(own: Database) -> None:
    node = own.server.workers[0]
    settings = environment_of(own) | {"STATEMENT_TIMEOUT_SECONDS": "2"}
    with serving(settings, own.url()) as api:
        split = Split(api, node)
        everyone = [*split.there, *split.elsewhere]
        assert split.post(everyone).status_code == 200
        assert split.tenant.get("/api/v1/latest").status_code == 200
        api.client.timeout = httpx.Timeout(45)
        with frozen(node.cluster):
            assert split.post(split.elsewhere).status_code == 200
            assert split.tenant.get("/api/v1/latest", sensor=split.elsewhere[0]).status_code == 200
            assert split.tenant.get("/api/v1/latest", sensor=split.there[0]).status_code == 503
            mixed = split.post(everyone)
            assert problem(mixed) == (503, "partly-stored")
            assert mixed.json()["unavailable"] == len(split.there)
        eventually(lambda: split.post(everyone).status_code == 200)
        eventually(lambda: split.tenant.get("/api/v1/latest").status_code == 200)


def test_known_sensors_go_on_without_the_coordinator(own: Database) -> None:
    with serving(environment_of(own), own.url()) as api:
        split = Split(api, own.server.workers[0])
        everyone = [*split.there, *split.elsewhere]
        assert split.post(everyone).status_code == 200
        with away(own.server):
            assert split.post(everyone).status_code == 200
            assert split.post(["unheard-of"]).status_code == 503
            assert split.tenant.get("/api/v1/latest").status_code == 503
        eventually(lambda: split.tenant.get("/api/v1/latest").status_code == 200)
        stored: list[Any] = api.sql("select count(*) from telemetry.reading")
        assert stored == [(2 * len(everyone),)]


@pytest.mark.parametrize("is_coordinator", [False, True])
def test_serve_starts_while_a_node_is_dead(own: Database, is_coordinator: bool) -> None:
    with serving(environment_of(own), own.url()) as api:
        split = Split(api, own.server.workers[0])
        api.kill9()
        with away(own.server if is_coordinator else own.server.workers[0]):
            api.start()
            answer = split.post(split.elsewhere)
            assert answer.status_code == (503 if is_coordinator else 200), answer.text
        eventually(lambda: split.post([*split.there, *split.elsewhere]).status_code == 200)
