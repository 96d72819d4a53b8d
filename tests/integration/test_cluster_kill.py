"""Whoever is killed in the middle of a move: what was acknowledged is there, once, and the move goes on.

The command writes its states to standard output, so it can be killed right after each; servers are killed
as a crash of their machine would.
"""

import asyncio
import random
import threading
import time

import psycopg
import pytest
from click.testing import CliRunner
from cluster_command import Command
from cluster_writer import writing
from fix_cluster import Cluster
from fix_ledger import eventually
from fix_server import environment_of

from app.cli import group
from app.db.moving import is_moving
from app.ops.moves import REMEDY
from app.settings import Settings
from jobs.scheduler import JOBS, run_once

pytestmark = pytest.mark.citus

STATES = ("->", "fenced", "copied", "verified", "switched", "done")


def test_a_command_killed_after_any_step_is_finished_by_the_next(cluster: Cluster) -> None:
    cold = cluster.cold()
    third = cluster.address(cluster.workers[2])
    first = cluster.address(cluster.workers[0])
    cluster.does("add-worker", third)
    with writing(cluster):
        for word in STATES:
            command = Command(cluster, "drain-worker", first)
            command.wait_for(word)
            command.kill9()
        cluster.does("drain-worker", first)
    assert cluster.workers[0].port not in cluster.groups().values()
    cluster.assert_as_before(cold)


def test_a_command_killed_before_the_switch_left_the_group_where_it_was(cluster: Cluster) -> None:
    """The copy is complete and checked, only the last commit is missing: the source still counts."""
    before = cluster.digests()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    places = cluster.groups()
    command = Command(cluster, "rebalance")
    command.wait_for("copied")
    with psycopg.connect(cluster.url()) as conn:
        conn.execute("select from ops.shard_move for update")
        time.sleep(4)  # it builds, compares, and then waits for us
        command.kill9()
        conn.rollback()
    assert cluster.groups() == places
    (move,) = cluster.status()["moves"]
    assert move["state"] in ("copied", "verified")
    assert "1 groups moved" in cluster.does("rebalance") or cluster.groups() != places
    assert cluster.digests() == before
    cluster.assert_whole()


def run_job(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the jobs' process does every few seconds."""
    for variable, text in environment_of(cluster).items():
        monkeypatch.setenv(variable, text)
    job = next(job for job in JOBS if job.name == "settle_moves")
    assert asyncio.run(run_once(Settings.from_env(), job))


def test_a_move_that_was_cut_off_is_seen_and_keeps_the_archive_waiting(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    command = Command(cluster, "rebalance")
    command.wait_for("fenced")
    assert "a command is at it" in cluster.headwater("status").output
    command.kill9()
    eventually(lambda: f"    -> {REMEDY}" in cluster.headwater("status").output)
    assert cluster.headwater("status").exit_code == 3
    (move,) = cluster.status()["moves"]
    port = cluster.groups()[move["shard_id"]]
    node = cluster.worker_at(port)
    with pytest.raises(psycopg.Error) as refused:
        cluster.on(node, f"delete from telemetry.reading_{move['shard_id']}")
    assert is_moving(refused.value)
    runner = CliRunner(env={"OWNER_DATABASE_URL": cluster.url()})
    doctor = runner.invoke(group, ["doctor"])
    assert f"WARNING  move: shards {move['shard_id']} are on the way" in doctor.output
    assert REMEDY in doctor.output
    archive = runner.invoke(
        group, ["archive", "restore", "--from", "2026-01-01T00:00Z", "--to", "2026-01-02T00:00Z"]
    )
    assert "and the archive waits for that" in str(archive.exception)
    cluster.does("rebalance")
    cluster.assert_whole()


@pytest.mark.parametrize("word", ["fenced", "copied", "switched"])
def test_the_jobs_end_a_move_whose_command_is_gone(
    cluster: Cluster, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, places = cluster.digests(), cluster.groups()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with psycopg.connect(cluster.url()) as reader:
        reader.execute("select 1")  # keeps the old copy from being removed
        command = Command(cluster, "rebalance")
        command.wait_for(word)
        run_job(cluster, monkeypatch)  # keeps out of a command's way
        assert cluster.status()["moves"] != []
        command.kill9()

    def is_over() -> bool:
        run_job(cluster, monkeypatch)
        return cluster.status()["moves"] == []

    eventually(is_over)
    assert (cluster.groups() == places) == (word != "switched")
    assert cluster.digests() == before
    cluster.execute("call citus_cleanup_orphaned_resources()")
    cluster.assert_whole()


def test_commands_killed_at_any_moment_lose_nothing(cluster: Cluster) -> None:
    dice = random.Random(1)
    cold = cluster.cold()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    first = cluster.address(cluster.workers[0])
    with writing(cluster):
        for _ in range(6):
            command = Command(cluster, "drain-worker", first)
            threading.Timer(dice.uniform(0.5, 7), command.process.kill).start()
            command.end()
        last = cluster.headwater("drain-worker", first)
        assert last.exit_code == 0 or "is no worker here" in str(last.exception), last.exception
    cluster.assert_as_before(cold)


def test_a_worker_is_taken_in_although_the_command_was_killed(cluster: Cluster) -> None:
    dice = random.Random(2)
    before = cluster.digests()
    third = cluster.address(cluster.workers[2])
    for _ in range(4):
        command = Command(cluster, "add-worker", third)
        threading.Timer(dice.uniform(0.6, 2.5), command.process.kill).start()
        command.end()
    cluster.does("add-worker", third)
    assert "1 groups moved" in cluster.does("rebalance")
    assert cluster.digests() == before
    cluster.assert_whole()


@pytest.mark.parametrize("who", ["source", "target"])
def test_a_server_killed_in_the_middle(cluster: Cluster, who: str) -> None:
    cold = cluster.cold()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    places = cluster.groups()
    with writing(cluster):
        command = Command(cluster, "rebalance")
        command.wait_for("fenced")
        shard_id = int(command.said[-1].split()[1])
        source = cluster.worker_at(places[shard_id])
        victim = source if who == "source" else cluster.workers[2]
        victim.kill9()
        status, complaint = command.end()
        assert status == 1
        assert complaint.startswith("headwater: ")
        assert complaint.count("\n") == 1
        assert cluster.groups() == places
        states = {node["node"]: node["is_up"] for node in cluster.status()["nodes"]}
        assert states[cluster.address(victim)] is False
        if who == "target":  # the source's writers need not wait until it is back
            assert cluster.on(source, "select * from ops.fenced_shards()") == []
        victim.start()
        cluster.does("rebalance")
    assert cluster.groups() != places
    cluster.assert_as_before(cold)


def test_the_coordinator_killed_in_the_middle(cluster: Cluster) -> None:
    cold = cluster.cold()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with writing(cluster):
        command = Command(cluster, "rebalance")
        command.wait_for("copied")
        cluster.server.kill9()
        status, complaint = command.end()
        assert status == 1
        assert "headwater cluster rebalance" in complaint
        cluster.server.start()
        cluster.does("rebalance")
    cluster.assert_as_before(cold)


def test_two_commands_do_not_meet(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    command = Command(cluster, "rebalance")
    command.wait_for("fenced")
    second = cluster.headwater("rebalance", "--wait", "0")
    assert "another migrate or cluster command is running (pid " in str(second.exception)
    assert command.end()[0] == 0
    cluster.assert_whole()
