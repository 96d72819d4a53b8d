"""Groups move between workers of the Apache edition, whose rollups are tables of their own."""

from collections.abc import Iterator

import pytest
from fix_cluster import Cluster, make_template
from fix_database import running

pytestmark = pytest.mark.citus


@pytest.fixture
def apache() -> Iterator[Cluster]:
    """A filled cluster of servers that say they are of this edition."""
    with running(3) as server:
        server.everywhere("alter system set timescaledb.license = 'apache'")
        for node in server.nodes:
            node.cluster.stop()
            node.start()
        make_template(server, "apache_template")
        yield Cluster(server, server.create("apache_template"))


def test_stored_rollups_and_what_they_still_have_to_take_in_move_with_the_group(
    apache: Cluster,
) -> None:
    cold = apache.cold()
    assert len(cold) > 24 * 24
    apache.execute(  # late, and in no stored rollup yet
        "insert into telemetry.reading (sensor_id, ts, value, metric_id)"
        " select s, now() - interval '30 hours', 1, 2 from generate_series(1, 24) as s"
    )
    apache.execute(
        "insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)"
        " select sensor_id, ts, ts, 1 from telemetry.reading where metric_id = 2"
    )
    before = apache.digests()
    apache.does("add-worker", apache.address(apache.workers[2]))
    apache.does("drain-worker", apache.address(apache.workers[0]))
    apache.does("rebalance")
    assert apache.digests() == before
    assert apache.cold() == cold
    apache.refresh()
    assert apache.cold() == cold
    assert apache.wrong_rollups() == {"1m": 0, "1h": 0, "1d": 0}
    assert apache.status()["is_complete"]
    for node in apache.workers:
        for shard_id, port in apache.groups().items():
            assert port == node.port or apache.remains(node, shard_id) == []
