"""Groups of shards move while an API takes readings, by either road: nothing is missing or doubled."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_command import Command
from fix_cluster import Cluster
from fix_database import Server, make_template, running
from fix_ledger import Fleet, check, eventually
from fix_server import Api, environment_of, row, serving

pytestmark = pytest.mark.citus


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, str]]:
    """A coordinator with three workers, and a template on them."""
    with running(workers=3) as server:
        yield server, make_template(server)


@pytest.fixture
def own(servers: tuple[Server, str]) -> Iterator[Cluster]:
    """A database of the test's own."""
    server, template = servers
    cluster = Cluster(server, server.create(template))
    yield cluster
    server.drop(cluster.name)


@pytest.fixture(params=["direct", "coordinator"])
def api(own: Cluster, request: pytest.FixtureRequest) -> Iterator[Api]:
    """An API on it, by either road."""
    with serving(environment_of(own) | {"INGEST_ROAD": request.param}, own.url()) as server:
        yield server


def test_workers_come_and_go_during_ingest(api: Api, own: Cluster, tmp_path: Path) -> None:
    fleet = Fleet(api.make_tenant(), tmp_path / "ledger")
    first, second = (own.address(node) for node in own.workers[:2])
    with fleet.running():
        fleet.wait_for(20)
        own.does("drain-worker", first)
        fleet.wait_for(20)
        own.does("add-worker", first)
        own.does("rebalance")
        command = Command(own, "drain-worker", second)
        command.wait_for("copied")
        command.kill9()
        time.sleep(2)
        own.does("drain-worker", second)
        fleet.wait_for(20)
    assert set(own.groups().values()) == {own.workers[0].port, own.workers[2].port}
    check(fleet)
    assert "unexpected_error" not in api.log.read_text()


def test_a_group_whose_move_was_cut_off_answers_what_to_do(api: Api, own: Cluster) -> None:
    tenant = api.make_tenant(is_auto_register=True)
    tenant.make_threshold("ph", "high", 8)
    uids = [f"s{number}" for number in range(24)]
    assert tenant.post([row(7.0, sensor=uid) for uid in uids]).status_code == 200
    command = Command(own, "drain-worker", own.address(own.workers[0]))
    command.wait_for("fenced")
    command.kill9()
    eventually(lambda: not own.status()["moves"][0]["is_running"])
    api.client.timeout = 40
    shard_id = own.status()["moves"][0]["shard_id"]
    sensors = dict(
        api.sql(
            "select uid, sensor_id from telemetry.sensor where tenant_id = %s", tenant.tenant_id
        )
    )
    there = [uid for uid in uids if own.group_of(sensors[uid]) == shard_id]
    elsewhere = [uid for uid in uids if uid not in there]

    mixed = tenant.post([row(9.0, sensor=uid) for uid in [*there, *elsewhere]])
    assert mixed.status_code == 503, mixed.text
    assert mixed.json()["type"].endswith("/partly-stored")
    assert mixed.json()["stored"] == len(elsewhere)
    refused = tenant.post([row(9.0, sensor=uid) for uid in there])
    assert refused.status_code == 503, refused.text
    assert "`headwater cluster status` says what to do" in refused.json()["detail"]
    # alerts of the others are told meanwhile
    raised = "select count(*) from alert.outbox where kind = 'raised'"
    api.sql("select alert.collect()")
    assert api.sql(raised) == [(len(elsewhere),)]
    status = api.client.get("/api/status").json()
    assert status["status"] == "degraded"
    assert [move["shard_id"] for move in status["moves"]] == [shard_id]
    assert any("headwater cluster rebalance" in reason for reason in status["reasons"])

    own.does("rebalance")
    assert tenant.post([row(9.0, sensor=uid) for uid in there]).status_code == 200
    api.sql("select alert.collect()")
    assert api.sql(raised) == [(len(uids),)]
    assert api.client.get("/api/status").json()["moves"] == []
    assert "unexpected_error" not in api.log.read_text()
