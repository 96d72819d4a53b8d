"""The arithmetic of bench/capacity.py on round numbers; the README's table is that of the reports."""

import pytest

from bench.__main__ import REPORTS
from bench.capacity import Costs, Plan, costs_of, disk_bytes, markdown, need, needs, servers
from bench.table import CAPACITY, END, README

DAY = 86_400
COSTS = Costs(
    worker_s_per_million=2.0,
    api_s_per_million=1.0,
    coordinator_s_per_million=0.1,
    upkeep_s_per_million=1.0,
    question_s=0.01,
    overview_s_per_stream=0.0001,
    wal_bytes=100,
    rowstore_bytes=100,
    columnstore_bytes=2,
    parquet_bytes=1,
    rollup_bytes=150,
    sources=(),
)
QUIET = Plan(questions_per_day=0, overviews_per_hour=0, disk_per_core_tb=1_000)


def test_cores_follow_from_readings_and_questions() -> None:
    found = need(1_000_000, 1.0, COSTS, QUIET)
    assert found.rate == 1_000_000
    assert found.worker_cores == pytest.approx(3)
    assert found.api_cores == pytest.approx(1)
    asking = Plan(questions_per_day=86.4, overviews_per_hour=3_600, disk_per_core_tb=1_000)
    # a thousand months of one sensor and one of all, each second
    assert need(1_000_000, 1.0, COSTS, asking).worker_cores == pytest.approx(3 + 10 + 100)


def test_headroom_and_replicas_multiply() -> None:
    small = need(10_000_000, 1.0, COSTS, QUIET)  # 30 busy cores, 60 with headroom
    assert (small.cores, small.workers, small.servers) == (8, 8, 18)
    tight = need(10_000_000, 1.0, COSTS, Plan(
        questions_per_day=0, overviews_per_hour=0, disk_per_core_tb=1_000, headroom=0.25, replicas=0
    ))  # fmt: skip
    assert (tight.cores, tight.workers, tight.servers) == (8, 5, 6)


def test_one_server_has_no_coordinator() -> None:
    found = need(10_000, 1.0, COSTS, QUIET)
    assert (found.cores, found.workers, found.servers, found.coordinator_cores) == (4, 1, 2, 0)


def test_disk_holds_both_stores_and_one_bucket_a_minute_or_reading() -> None:
    plan = Plan(rowstore_days=2, columnstore_days=10, rollup_days=3)
    often = disk_bytes(600, 600.0, COSTS, plan)
    assert often == pytest.approx(600 * DAY * (200 + 20) + 10 * DAY * 3 * 150)
    seldom = disk_bytes(600, 0.6, COSTS, plan)  # a reading every thousand seconds
    assert seldom == pytest.approx(0.6 * DAY * (200 + 20) + 0.6 * DAY * 3 * 150)


def test_disk_decides_where_it_needs_more_servers_than_cores_do() -> None:
    plan = Plan(disk_per_core_tb=0.25, most_workers=8)
    assert servers(1, 9, plan) == (8, 5)  # 4 cores hold 1 TB: nine of them are too many
    assert servers(1_000, 1, plan) == (64, 16)  # the biggest, however many
    found = need(1_000_000, 1.0, COSTS, Plan(questions_per_day=0, overviews_per_hour=0))
    assert found.is_bound_by_disk


def test_committed_table_is_made_from_the_committed_reports() -> None:
    plan = Plan()
    costs = costs_of(REPORTS, plan)
    shown = README.read_text().partition(CAPACITY)[2].partition(END)[0].strip()
    assert shown == markdown(needs(costs, plan), costs, plan), "python -m bench capacity --write"
