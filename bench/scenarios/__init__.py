"""One module a scenario, each with one function from Options to a Report."""

import importlib
from collections.abc import Callable
from typing import cast

from bench.options import Options
from bench.report import Report

Scenario = Callable[[Options], Report]

SCENARIOS = {
    "ingest-batch": "HTTP batches with all checks on, against binary COPY by two connections",
    "ingest-dedup": "batches that collide with stored readings, against plain COPY",
    "ingest-single": "one reading a POST, against a server that does all but write",
    "backfill": "a year of history by `headwater import`, against un-indexed COPY",
    "alert-path": "10, 1,000 and 100,000 rules, against the same ingest without rules",
    "alert-latency": "POST sent to WebSocket received under load",
    "query": "dashboards' questions while ingesting, against the same on raw readings",
    "distributed": "1, 2 and 4 workers by both roads, against one server",
    "storage": "bytes a reading in row store, columnstore and Parquet",
    "archive": "a chunk to sorted, verified Parquet, against COPY TO of the same chunk",
    "relay": "psql by way of the relay, against the database itself and the API",
    "memory": "resident memory of the API under each load and over ten minutes",
}


def scenario(name: str) -> Scenario:
    """The scenario's function."""
    module = importlib.import_module(f"bench.scenarios.{name.replace('-', '_')}")
    return cast("Scenario", module.measure)
