"""A command that hangs in the middle of a move (stopped, not dead) keeps nobody waiting for long.

Stopped with SIGSTOP it looks to every server like one whose machine is gone without a word.
"""

import asyncio
import signal
import time

import psycopg
import pytest
from cluster_command import Command
from cluster_writer import Writer, writing
from fix_cluster import Cluster
from fix_ledger import eventually
from fix_replica import frozen
from fix_server import environment_of

from app.migrate.lease import LEASE_SECONDS
from app.settings import Settings
from jobs.scheduler import JOBS, run_once

pytestmark = pytest.mark.citus

LET_GO_SECONDS = 3 * LEASE_SECONDS
"""The lease, and what its statement under way and those who come after it take."""

COPYING = "select from pg_stat_activity where state = 'active' and query like 'COPY telemetry.%'"


def stand_still(command: Command) -> None:
    """As it would with its machine gone: nobody closes a connection."""
    command.process.send_signal(signal.SIGSTOP)


def go_on(command: Command) -> tuple[int, str]:
    """Wake it; how it ends."""
    command.process.send_signal(signal.SIGCONT)
    return command.end()


def assert_says_what_to_do(status: int, complaint: str) -> None:
    assert status == 1
    assert complaint.startswith("headwater: the hold of the cluster was lost")
    assert "`headwater cluster rebalance` goes on from here" in complaint
    assert complaint.count("\n") == 1


def is_written(writers: tuple[Writer, Writer], shard_id: int, since: float) -> bool:
    """Whether both roads have got through to a group since then."""
    through, direct = writers
    return any(when > since for when, _ in through.when) and any(
        when > since and group == shard_id for when, group in direct.when
    )


@pytest.mark.parametrize("word", ["fenced", "verified"])
def test_writes_go_on_soon_after_a_command_hung(
    cluster: Cluster, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs let writers in again; the command wakes to a cluster that is not its own any more."""
    for variable, text in environment_of(cluster).items():
        monkeypatch.setenv(variable, text)
    settle = next(job for job in JOBS if job.name == "settle_moves")
    cold, places = cluster.cold(), cluster.groups()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with writing(cluster) as writers:
        command = Command(cluster, "rebalance")
        command.wait_for(word)
        stand_still(command)
        shard_id = int(command.said[-1].split()[1])
        hung = time.monotonic()

        def is_over() -> bool:
            asyncio.run(run_once(Settings.from_env(), settle))
            return is_written(writers, shard_id, hung)

        eventually(is_over, seconds=LET_GO_SECONDS)
        eventually(lambda: is_over() and cluster.status()["moves"] == [], seconds=LET_GO_SECONDS)
        assert_says_what_to_do(*go_on(command))
        time.sleep(0.5)
        assert cluster.groups() == places
        assert "1 groups moved" in cluster.does("rebalance")
    cluster.assert_as_before(cold)


@pytest.mark.parametrize("word", ["copied", "switched"])
def test_the_next_command_goes_on_and_the_one_that_hung_spoils_nothing(
    cluster: Cluster, word: str
) -> None:
    """It wakes only once the group has been moved away and back again."""
    cold = cluster.cold()
    first, third = (cluster.address(cluster.workers[number]) for number in (0, 2))
    cluster.does("add-worker", third)
    with writing(cluster):
        command = Command(cluster, "drain-worker", first)
        command.wait_for(word)
        stand_still(command)
        said = cluster.does("drain-worker", first)
        assert "another migrate or cluster command is running" in said
        cluster.does("add-worker", first)
        cluster.does("rebalance")
        places = cluster.groups()
        assert cluster.workers[0].port in places.values()
        assert_says_what_to_do(*go_on(command))
        assert cluster.groups() == places
    cluster.assert_as_before(cold)


def test_a_command_that_hung_for_less_goes_on(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with writing(cluster):
        command = Command(cluster, "rebalance")
        command.wait_for("fenced")
        stand_still(command)
        time.sleep(LEASE_SECONDS / 4)
        assert go_on(command) == (0, "")
    cluster.assert_whole()


def test_a_command_that_waits_long_keeps_its_hold(cluster: Cluster) -> None:
    """Nothing is asked of its sessions meanwhile, but it lives."""
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with psycopg.connect(cluster.url()) as reader:
        reader.execute("select 1")  # keeps the old copy from being removed
        command = Command(cluster, "rebalance")
        command.wait_for("switched")
        time.sleep(1.5 * LEASE_SECONDS)
        assert command.process.poll() is None
    assert command.end() == (0, "")
    cluster.assert_whole()


def test_a_move_is_given_up_where_a_server_stands_still(cluster: Cluster) -> None:
    """The command says which and ends; all goes on when that server is back."""
    cold = cluster.cold()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with writing(cluster):
        command = Command(cluster, "rebalance")
        command.wait_for("fenced")
        shard_id = int(command.said[-1].split()[1])
        places = cluster.groups()
        source = cluster.worker_at(places[shard_id])
        with frozen(source.cluster):
            status, complaint = command.end()
            assert status == 1
            assert cluster.address(source) in complaint
            assert complaint.count("\n") == 1
        assert cluster.groups() == places
        cluster.does("rebalance")
    cluster.assert_as_before(cold)


@pytest.mark.parametrize("word", ["fenced", "copied"])
def test_writers_go_on_where_the_target_stands_still(cluster: Cluster, word: str) -> None:
    """Citus' copy still reads the group then, and the coordinator waits for its end."""
    cold, target = cluster.cold(), cluster.workers[2]
    cluster.does("add-worker", cluster.address(target))
    shard_id = int(cluster.does("rebalance", "--dry-run").split()[1])
    source = cluster.worker_at(cluster.groups()[shard_id])
    sensor = next(one for one in range(1, 25) if cluster.group_of(one) == shard_id)
    cluster.on(  # what takes a while to copy
        source,
        f"insert into telemetry.reading_{shard_id} (sensor_id, ts, value, metric_id)"
        f" select {sensor}, now() - i * interval '20 ms', 1, 4 from generate_series(1, 500000) as i",
    )
    with writing(cluster) as (_, direct):
        command = Command(cluster, "rebalance")
        command.wait_for(word)
        shard_id = int(command.said[-1].split()[1])
        places = cluster.groups()
        if word == "fenced":
            eventually(lambda: cluster.on(target, COPYING) != [])
        with frozen(target.cluster):
            status, complaint = command.end()
            assert (status, complaint.count("\n")) == (1, 1), complaint
            assert f"{cluster.address(target)} does not answer" in complaint
            ended = time.monotonic()
            eventually(lambda: any(at > ended and to == shard_id for at, to in direct.when))
        assert cluster.groups() == places
        cluster.does("rebalance")
        assert cluster.groups() != places
    cluster.assert_as_before(cold)
