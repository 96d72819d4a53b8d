"""`headwater cluster`: what it shows, and the one line for whatever a person can mend."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from fix_cluster import Cluster
from fix_database import Database

from app.cli import group
from app.paths import ROOT

pytestmark = pytest.mark.citus


def refusal(cluster: Cluster, *words: str) -> str:
    done = cluster.headwater(*words)
    assert done.exit_code == 1
    text = str(done.exception)
    assert "\n" not in text
    return text


def test_status_tells_nodes_groups_and_sizes(cluster: Cluster) -> None:
    status = cluster.status()
    coordinator, *workers = status["nodes"]
    assert coordinator["role"] == "coordinator"
    assert not coordinator["takes_shards"]
    assert [node["groups"] for node in workers] == [2, 2]
    assert all(node["is_up"] and node["takes_shards"] and node["missing"] == [] for node in workers)
    assert status["is_complete"]
    assert status["moves"] == []
    sizes = {group["shard_id"]: group["size_bytes"] for group in status["groups"]}
    assert set(sizes) == set(cluster.groups())
    for node in workers:
        assert node["size_bytes"] == sum(
            group["size_bytes"] for group in status["groups"] if group["node"] == node["node"]
        )
        assert node["size_bytes"] > 100_000  # chunks, not the empty table above them
    assert 1 <= status["skew"] < 2
    text = cluster.headwater("status").output
    for node in workers:
        assert f"{node['node']}  worker" in text


def test_status_names_a_node_that_is_down_and_what_is_not_built(cluster: Cluster) -> None:
    shard_id, port = next(iter(cluster.groups().items()))
    node = cluster.worker_at(port)
    cluster.on(node, f"delete from ops.applied where shard_id = {shard_id}")
    status = cluster.status()
    assert not status["is_complete"]
    assert f"shards {shard_id} on {cluster.address(node)}" in str(status["nodes"])
    node.kill9()
    done = cluster.headwater("status")
    assert done.exit_code == 3
    assert f"{cluster.address(node)}  worker       down" in done.output
    for words in (["rebalance", "--dry-run"], ["rebalance"]):
        said = cluster.does(*words)
        assert f"{cluster.address(node)}  is away: what lies there stays there" in said
        assert "nothing to move" in said
    refused = refusal(cluster, "drain-worker", cluster.address(node))
    assert f"{cluster.address(node)} can't be reached" in refused


def test_status_names_a_node_without_the_guard(cluster: Cluster) -> None:
    node = cluster.workers[0]
    cluster.on(node, f"alter database {cluster.name} set max_parallel_workers_per_gather = 2")
    worker = cluster.status()["nodes"][1]
    assert any("parallel query" in danger for danger in worker["dangers"])


def test_addresses_that_are_no_worker(cluster: Cluster) -> None:
    coordinator = f"127.0.0.1:{cluster.server.port}"
    assert "can't be reached" in refusal(cluster, "add-worker", "nowhere.invalid:5432")
    assert "can't be reached" in refusal(cluster, "add-worker", "127.0.0.1:1")
    assert "is the coordinator" in refusal(cluster, "add-worker", coordinator)
    by_name = f"localhost:{cluster.server.port}"
    assert f"{by_name} is the coordinator by another name" in refusal(
        cluster, "add-worker", by_name
    )
    worker = cluster.workers[0].port
    assert f"localhost:{worker} is the worker 127.0.0.1:{worker} by another name" in refusal(
        cluster, "add-worker", f"localhost:{worker}"
    )
    assert "the workers are 127.0.0.1:" in refusal(cluster, "drain-worker", "127.0.0.1:1")
    assert "is no worker here" in refusal(cluster, "drain-worker", coordinator)
    malformed = cluster.headwater("add-worker", "db3")
    assert malformed.exit_code == 2
    assert "'db3' is not HOST:PORT" in malformed.output


def test_the_last_worker_is_not_drained(cluster: Cluster) -> None:
    cluster.does("drain-worker", cluster.address(cluster.workers[0]))
    last = cluster.address(cluster.workers[1])
    assert "the only worker that takes shards: add another" in refusal(
        cluster, "drain-worker", last
    )
    assert cluster.status()["is_complete"]


def test_a_server_that_would_not_fit_is_refused(cluster: Cluster) -> None:
    third = cluster.workers[2]
    address = cluster.address(third)
    third.execute(f"drop database {cluster.name}")
    assert f'database "{cluster.name}" does not exist' in refusal(cluster, "add-worker", address)
    third.execute(f"create database {cluster.name}")
    third.execute("alter system set max_prepared_transactions = 0")
    third.cluster.stop()
    try:
        third.start()
        refused = refusal(cluster, "add-worker", address)
        assert "max_prepared_transactions = 0: set it to" in refused
    finally:
        third.execute("alter system reset max_prepared_transactions")
        third.cluster.stop()
        third.start()
    cluster.does("add-worker", address)


def test_another_clusters_database_is_not_taken(cluster: Cluster) -> None:
    third = cluster.workers[2]
    cluster.on(third, "create extension citus")
    cluster.on(third, f"select citus_set_coordinator_host('127.0.0.1', {third.port})")
    assert "belongs to another cluster" in refusal(cluster, "add-worker", cluster.address(third))


def test_a_database_on_one_server_has_no_workers(empty_database: Database) -> None:
    runner = CliRunner(env={"OWNER_DATABASE_URL": empty_database.url()})
    done = runner.invoke(group, ["cluster", "status"])
    assert "headwater dev up --workers 2" in str(done.exception)


def test_exit_status_reaches_the_shell(cluster: Cluster) -> None:
    """3 where something is wrong: the test's servers do without fsync, which is a danger."""
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "cluster", "status"],
        cwd=ROOT,
        env=os.environ | {"OWNER_DATABASE_URL": cluster.url()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
