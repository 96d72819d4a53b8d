"""Groups of shards move between servers: nothing is lost, nothing is different."""

import pytest
from fix_cluster import Cluster

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
