"""Groups of shards move between servers: nothing is lost, nothing is different, others write on."""

import asyncio
import itertools
import threading
import time

import psycopg
import pytest
from cluster_writer import writing
from fix_cluster import Cluster

from app.migrate import migrate

pytestmark = pytest.mark.citus


def test_a_new_worker_takes_its_share_and_everything_is_as_before(cluster: Cluster) -> None:
    before, cold = cluster.digests(), cluster.cold()
    assert len(cold) > 24 * 24
    third = cluster.workers[2]
    said = cluster.does("add-worker", cluster.address(third))
    assert f"{cluster.address(third)}  is a worker" in said
    assert cluster.does("rebalance", "--dry-run").count(" -> ") == 1
    assert "1 groups moved" in cluster.does("rebalance")
    assert sorted(list(cluster.groups().values()).count(w.port) for w in cluster.workers) == [
        1,
        1,
        2,
    ]
    assert cluster.digests() == before
    assert cluster.cold() == cold
    assert cluster.wrong_rollups() == {"1m": 0, "1h": 0, "1d": 0}
    cluster.assert_whole()
    assert "nothing to move" in cluster.does("rebalance")


def test_both_roads_write_on_while_groups_move(cluster: Cluster) -> None:
    cold = cluster.cold()
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    with writing(cluster) as (_, direct):
        time.sleep(1)
        moves = []
        for round_trip in range(2):
            began = time.monotonic()
            worker = cluster.workers[round_trip]
            cluster.does("drain-worker", cluster.address(worker))
            moves.append((began, time.monotonic()))
    assert direct.refused > 0, "the fence was never met"
    for began, ended in moves:  # whoever did not move was written to all the time
        busy = [when for when, _ in direct.when if began < when < ended]
        assert len(busy) > 5
    assert set(cluster.groups().values()) == {cluster.workers[2].port}
    cluster.assert_as_before(cold)


def test_other_groups_are_written_to_as_fast_while_one_moves(cluster: Cluster) -> None:
    """Straight to a worker: the longest pause of every other group stays far below the move's length."""
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    done = threading.Event()
    others: dict[int, list[float]] = {}
    moving = int(cluster.does("rebalance", "--dry-run").split()[1])

    def write(sensor: int, shard_id: int) -> None:
        port = cluster.groups()[shard_id]
        node = cluster.worker_at(port)
        with psycopg.connect(node.url(cluster.name), autocommit=True) as conn:
            while not done.is_set():
                conn.execute(
                    f"insert into telemetry.reading_{shard_id} (sensor_id, ts, value, metric_id)"  # type: ignore[arg-type]
                    " values (%s, clock_timestamp(), 1, 4)",
                    [sensor],
                )
                others[shard_id].append(time.monotonic())

    threads = []
    for sensor in range(1, 25):
        shard_id = cluster.group_of(sensor)
        if shard_id != moving and shard_id not in others:
            others[shard_id] = []
            threads.append(threading.Thread(target=write, args=(sensor, shard_id), daemon=True))
    assert len(threads) == 3
    for thread in threads:
        thread.start()
    began = time.monotonic()
    cluster.does("rebalance")
    length = time.monotonic() - began
    done.set()
    for thread in threads:
        thread.join(10)
    for times in others.values():
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert len(times) > 100
        assert max(pauses) < length / 2, "an idle group waited for the move"


def test_readers_notice_nothing(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    done = threading.Event()
    seen: set[object] = set()
    wrong: list[BaseException] = []
    queries = (
        "select 'readings', count(*), sum(value) from telemetry.reading where metric_id = 1",
        "select 'hours', sum(n), count(*) from telemetry.rollup_1h where metric_id = 1",
        "select 'episodes', count(*), 0 from alert.episode",
    )

    def read() -> None:
        try:
            with psycopg.connect(cluster.url(), autocommit=True) as conn:
                while not done.is_set():
                    for query in queries:
                        for name, first, second in conn.execute(query).fetchall():  # type: ignore[call-overload]
                            seen.add((name, first, round(second, 6)))
        except BaseException as exc:
            wrong.append(exc)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    cluster.does("rebalance")
    cluster.does("drain-worker", cluster.address(cluster.workers[0]))
    done.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert len(seen) == len(queries), seen


def test_a_drained_worker_can_be_taken_in_again(cluster: Cluster) -> None:
    before, cold = cluster.digests(), cluster.cold()
    first = cluster.workers[0]
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    assert "is no worker any more" in cluster.does("drain-worker", cluster.address(first))
    assert cluster.address(first) not in cluster.headwater("status").output
    again = cluster.headwater("add-worker", cluster.address(first))
    assert again.exit_code == 0, (again.output, again.exception)
    assert "groups moved" in cluster.does("rebalance")
    assert cluster.digests() == before
    assert cluster.cold() == cold
    cluster.assert_whole()


def test_policies_that_are_switched_off_stay_off(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    shard_id = int(cluster.does("rebalance", "--dry-run").split()[1])
    names = (
        f"array['telemetry.reading_{shard_id}'] || array(select format('%s.%s', user_view_schema,"
        f" user_view_name) from _timescaledb_catalog.continuous_agg where user_view_name ~"
        f" (select string_agg('_' || shardid || '$', '|') from pg_dist_shard as s join"
        f" pg_dist_partition as p using (logicalrelid) where p.partmethod = 'h' and s.shardminvalue ="
        f" (select shardminvalue from pg_dist_shard where shardid = {shard_id})))"
    )
    policies = f"select name, is_off from ops.named_shard_jobs({names}) order by name"
    source = next(w for w in cluster.workers if w.port == cluster.groups()[shard_id])
    before = cluster.on(source, policies)
    assert len(before) >= 4 and {is_off for _, is_off in before} == {False}, before
    off = next(name for name, _ in before if "rollup_1h" in name)
    cluster.on(
        source,
        f"select alter_job(job_id, scheduled => false) from ops.named_shard_jobs({names})"
        f" where name = '{off}'",
    )
    wanted = [(name, name == off) for name, _ in before]

    # a move that is undone
    cluster.on(source, f"select ops.schedule_shard_jobs({names}, false)")
    assert cluster.jobs_that_stand_still()[source.name] == len(before)
    cluster.on(source, f"select ops.unfence_shards({names})")
    assert cluster.on(source, policies) == wanted
    assert cluster.jobs_that_stand_still()[source.name] == 1

    cluster.does("rebalance")
    target = next(w for w in cluster.workers if w.port == cluster.groups()[shard_id])
    assert target != source
    assert cluster.on(target, policies) == wanted
    assert sum(cluster.jobs_that_stand_still().values()) == 1


def test_alerts_go_on_where_a_group_came_to(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    shard_id = int(cluster.does("rebalance", "--dry-run").split()[1])
    sensor = next(s for s in range(1, 25) if cluster.group_of(s) == shard_id)
    source = next(w for w in cluster.workers if w.port == cluster.groups()[shard_id])
    sequence = f"select last_value from alert.shard_number_{shard_id}"
    ((given,),) = cluster.on(source, sequence)
    cluster.does("rebalance")
    cluster.execute(
        "insert into alert.candidate (sensor_id, ts, value, metric_id)"
        f" values ({sensor}, now() + interval '1 second', 7, 1),"
        f" ({sensor}, now() + interval '2 seconds', 11, 1)"
    )
    episodes = cluster.execute(
        f"select episode_id, state from alert.episode where sensor_id = {sensor} order by opened_at"
    )
    assert [state for _, state in episodes][-1] == "open"
    newest = episodes[-1][0]
    assert isinstance(newest, int)
    assert newest > given, "a number was given twice"
    ((open_ones, causes),) = cluster.execute(
        "select count(*), count(distinct (sensor_id, metric_id, severity, side))"
        " from alert.episode where state <> 'resolved'"
    )
    assert open_ones == causes


def test_what_hangs_on_grants_can_be_applied_again_by_itself(cluster: Cluster) -> None:
    views = "select viewname, definition from pg_views where schemaname = 'tenant' order by 1"
    before = cluster.execute(views)
    assert "identity.here" in str(before)
    cluster.execute(
        "update ops.repeatable set checksum = '' where file in"
        " ('sql/identity/grants_sql.sql', 'sql/edition/citus/tenant_views.sql')"
    )
    asyncio.run(migrate(cluster.url()))
    assert cluster.execute(views) == before


def test_whoever_listens_is_told_of_the_move(cluster: Cluster) -> None:
    cluster.does("add-worker", cluster.address(cluster.workers[2]))
    shard_id = cluster.does("rebalance", "--dry-run").split()[1]
    with psycopg.connect(cluster.url("headwater_app"), autocommit=True) as conn:
        conn.execute("listen shards_moved")
        cluster.does("rebalance")
        told = [note.payload for note in conn.notifies(timeout=5, stop_after=1)]
    assert told == [shard_id]
