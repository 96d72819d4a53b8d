"""Workers move groups between them while another is dead; it catches up by itself once it is back."""

import asyncio
import random
import threading

import psycopg
import pytest
from cluster_command import Command
from cluster_writer import writing
from fix_cluster import Cluster
from fix_database import Node
from fix_ledger import eventually
from fix_server import environment_of, serving

from app.settings import Settings
from jobs.scheduler import JOBS, run_once

pytestmark = pytest.mark.citus

PLACES = "select shardid, groupid from pg_dist_placement order by 1, 2"
GRANTS = (
    "select logicalrelid::text, grantee::regrole::text, privilege_type"
    " from pg_dist_partition join pg_class as c on c.oid = logicalrelid"
    " cross join aclexplode(relacl) order by 1, 2, 3"
)
RULES = (
    "select tgrelid::regclass::text, tgname from pg_trigger"
    " where tgrelid in (select logicalrelid from pg_dist_partition) and not tgisinternal"
    " union all select conrelid::regclass::text, conname from pg_constraint"
    " where conrelid in (select logicalrelid from pg_dist_partition) order by 1, 2"
)


@pytest.fixture
def three(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Groups on all three workers; the jobs find the database."""
    for variable, text in environment_of(cluster).items():
        monkeypatch.setenv(variable, text)
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    cluster.does("rebalance")
    return cluster


def run_job() -> None:
    """As the jobs' process does every few seconds."""
    job = next(job for job in JOBS if job.name == "settle_moves")
    assert asyncio.run(run_once(Settings.from_env(), job))


def kept(cluster: Cluster) -> dict[str, tuple[object, ...]]:
    """What a crash must not change: candidates are unlogged."""
    return {table: row for table, row in cluster.digests().items() if table != "alert.candidate"}


def is_aside(cluster: Cluster, node: Node) -> bool:
    """Whether the cluster has gone on without it."""
    states = {one["node"]: one["is_aside"] for one in cluster.status()["nodes"]}
    return bool(states[cluster.address(node)])


def come_back(cluster: Cluster, node: Node) -> None:
    """Started, and the jobs running: nothing else."""
    if node.cluster.pid is None:
        node.start()

    def is_back() -> bool:
        run_job()
        return not is_aside(cluster, node)

    eventually(is_back)


def assert_alike(cluster: Cluster) -> None:
    """Every worker knows the same as one that never was away."""
    for question in (PLACES, RULES):
        first, *others = (cluster.on(node, question) for node in cluster.workers)
        assert first
        assert all(answer == first for answer in others)
    assert cluster.on(cluster.workers[0], PLACES) == cluster.execute(PLACES)


def test_the_living_go_on_and_the_dead_one_catches_up(three: Cluster) -> None:
    cold = three.cold()
    first, second, dead = three.workers
    grants = three.on(dead, GRANTS)
    stay = {shard_id for shard_id, port in three.groups().items() if port == dead.port}
    with writing(three) as (_, direct):
        dead.kill9()
        assert f"{three.address(dead)}  is away" in three.does("rebalance", "--dry-run")
        assert not is_aside(three, dead)
        said = three.does("drain-worker", three.address(first))
        assert f"{three.address(dead)}  is away: what lies there stays there" in said
        assert set(three.groups().values()) == {second.port, dead.port}
        assert {s for s, port in three.groups().items() if port == dead.port} == stay
        shown = three.headwater("status")
        assert shown.exit_code == 3
        assert f"ASIDE  {three.address(dead)} was away" in shown.output
        three.does("add-worker", three.address(first))
        three.does("rebalance")
        assert first.port in three.groups().values()
        run_job()
        assert is_aside(three, dead)
        written = len(direct.ledger)
        come_back(three, dead)
        eventually(lambda: len(direct.ledger) > written)
    assert set(grants) <= set(three.on(dead, GRANTS))
    assert_alike(three)
    three.assert_as_before(cold)
    said = three.does("drain-worker", three.address(second))
    assert "away" not in said
    three.assert_as_before(cold)


def test_who_comes_back_unnoticed_is_written_to_and_read_aright(three: Cluster) -> None:
    """Nobody has told it yet what moved, and nobody goes by what it knows."""
    before = kept(three)
    first, second, dead = three.workers
    dead.kill9()
    three.does("drain-worker", three.address(first))
    dead.start()
    eventually(lambda: kept(three) == before)
    assert three.on(dead, PLACES) != three.execute(PLACES)
    with writing(three):
        three.execute("insert into telemetry.sensor (tenant_id, uid) values (1, 'new')")
        # what the next command does first
        said = three.does("rebalance")
        assert f"{three.address(dead)}  is back" in said
    assert three.on(dead, PLACES) == three.execute(PLACES)
    assert set(three.on(second, GRANTS)) <= set(three.on(dead, GRANTS))
    three.assert_whole()


def test_commands_killed_at_any_moment_while_another_is_dead(three: Cluster) -> None:
    dice = random.Random(3)
    cold = three.cold()
    first, _, dead = three.workers
    with writing(three):
        dead.kill9()
        for _ in range(4):
            command = Command(three, "drain-worker", three.address(first))
            threading.Timer(dice.uniform(0.5, 6), command.process.kill).start()
            command.end()
        last = three.headwater("drain-worker", three.address(first))
        assert last.exit_code == 0 or "is no worker here" in str(last.exception), last.exception
        come_back(three, dead)
    three.assert_as_before(cold)


def test_two_dead_at_a_time(three: Cluster) -> None:
    first, second, third = three.workers
    second.kill9()
    third.kill9()
    said = three.headwater("drain-worker", three.address(first))
    assert "the only worker that takes shards and can be reached" in str(said.exception)
    said = three.headwater("drain-worker", three.address(second))
    assert f"{three.address(second)} can't be reached" in str(said.exception)
    for node in (second, third):
        three.execute(
            f"select ops.set_node_aside(groupid) from pg_dist_node where nodeport = {node.port}"
        )
    assert is_aside(three, second) and is_aside(three, third)
    with serving(environment_of(three), three.url()) as api:

        def shown() -> list[bool]:
            return [node["is_aside"] for node in api.client.get("/api/status").json()["nodes"]]

        eventually(lambda: shown() == [False, True, True])
    come_back(three, second)
    assert is_aside(three, third)
    come_back(three, third)
    assert_alike(three)
    three.assert_whole()


def test_a_worker_is_taken_in_while_another_is_dead(cluster: Cluster) -> None:
    before = kept(cluster)
    _, dead, third = cluster.workers
    dead.kill9()
    said = cluster.does("add-worker", cluster.address(third))
    assert f"{cluster.address(dead)}  is away" in said
    assert "1 groups moved" in cluster.does("rebalance")
    assert third.port in cluster.groups().values()
    dead.start()
    assert "is back" in cluster.does("rebalance")
    assert kept(cluster) == before
    assert_alike(cluster)
    cluster.assert_whole()


def test_a_move_whose_target_died_waits_and_the_others_go_on(three: Cluster) -> None:
    before = kept(three)
    first, second, dead = three.workers
    three.does("drain-worker", three.address(dead))
    three.does("add-worker", three.address(dead))
    command = Command(three, "rebalance")
    command.wait_for("fenced")
    dead.kill9()
    assert command.end()[0] == 1
    (move,) = three.status()["moves"]
    assert three.address(dead) in (move["source"], move["target"])
    said = three.does("rebalance")
    assert f"shards {move['shard_id']}  waits" in said
    for node in (first, second):
        assert three.on(node, "select * from ops.fenced_shards()") == []
    come_back(three, dead)
    eventually(lambda: run_job() is None and three.status()["moves"] == [])
    assert kept(three) == before
    three.does("rebalance")
    three.assert_whole()


def test_writes_by_a_stale_worker_are_refused_not_lost(three: Cluster) -> None:
    """Nobody of ours writes through a worker; who does so by hand is told that the shard is gone."""
    first, _, dead = three.workers
    moved = [s for s in range(1, 25) if three.groups()[three.group_of(s)] == first.port]
    dead.kill9()
    three.does("drain-worker", three.address(first))
    dead.start()
    with pytest.raises(psycopg.Error):
        three.on(
            dead,
            "insert into telemetry.reading (sensor_id, ts, value, metric_id)"
            f" values ({moved[0]}, now(), 1, 5)",
        )
    come_back(three, dead)
    assert three.execute("select count(*) from telemetry.reading where metric_id = 5") == [(0,)]
