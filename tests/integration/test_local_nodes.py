"""The doctor and the status look at every node, and the guard they look for keeps servers alive."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from click.testing import CliRunner, Result
from fix_server import serving

from app.local import doctor_cli
from app.local.node import Node
from app.local.runtime import Runtime
from app.local.temporary import temporary
from app.migrate import migrate

pytestmark = pytest.mark.citus
SMALL = {"shared_buffers": "64MB"}
GUARD = "max_parallel_workers_per_gather"
SECONDS = 6.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Runtime]:
    with temporary(workers=2, with_redis=False, settings=SMALL) as runtime:
        asyncio.run(migrate(runtime.superuser_url))
        yield runtime


@pytest.fixture
def runtime(shared: Runtime) -> Runtime:
    """The module's runtime, every node up and guarded."""
    shared.start()
    for node in shared.nodes:
        set_guard(node, "0")
    return shared


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    """What the last statement returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload]
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


def doctor(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    for name, text in runtime.environment().items():
        monkeypatch.setenv(name, text)
    return CliRunner().invoke(doctor_cli.doctor, words)


def set_guard(node: Node, value: str) -> None:
    where = node.url(database="postgres")  # where Citus does not see it
    ask(where, f"alter database headwater set {GUARD} = {value}")


def test_doctor_finds_nothing_wrong_with_nodes_of_ours(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = doctor(runtime, monkeypatch, "--json")
    assert answer.exit_code == 0, answer.output
    report = msgspec.json.decode(answer.stdout)
    assert [node["address"] for node in report["nodes"]] == [
        f"127.0.0.1:{worker.port}" for worker in runtime.workers
    ]
    assert all(node["offer"]["citus_version"] for node in report["nodes"])
    assert report["findings"] == []


def test_doctor_sees_a_worker_without_the_guard(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_guard(runtime.workers[1], "2")
    answer = doctor(runtime, monkeypatch)
    assert answer.exit_code == 1
    assert "DANGER  node 2, parallel query" in answer.output
    assert "node 1, parallel" not in answer.output


def test_doctor_names_a_worker_that_is_down(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.workers[0].kill9()
    answer = doctor(runtime, monkeypatch)
    assert answer.exit_code == 1
    address = f"127.0.0.1:{runtime.workers[0].port}"
    assert f"DANGER  node 1, {address}: can't be reached" in answer.output


def test_status_sees_a_worker_without_the_guard_and_one_that_is_down(runtime: Runtime) -> None:
    set_guard(runtime.workers[1], "2")
    with serving(runtime.environment(), runtime.superuser_url) as api:

        def settled(word: str) -> dict[str, Any]:
            """The status once node 1 is that."""
            deadline = time.monotonic() + 20
            while True:
                answer = api.client.get("/api/status")
                body: dict[str, Any] = answer.json()
                if body["nodes"] and body["nodes"][0]["db"] == word:
                    assert answer.status_code == 200
                    return body
                assert time.monotonic() < deadline, body
                time.sleep(0.2)

        settled("connected")
        runtime.workers[0].kill9()
        body = settled("disconnected")
        assert (body["status"], body["db"]) == ("degraded", "connected")
        for number, (node, worker) in enumerate(
            zip(body["nodes"], runtime.workers, strict=True), start=1
        ):
            assert (node["node"], node["address"]) == (number, f"127.0.0.1:{worker.port}")
            assert node["shards"] > 0
            assert node["is_aside"] is False
        assert body["nodes"][1]["db"] == "connected"
        assert body["moves"] == []
        assert any(reason.startswith("node 1: can't be reached") for reason in body["reasons"])
        assert [danger.partition(":")[0] for danger in body["dangers"]] == [
            "node 2, parallel query"
        ]
        runtime.workers[0].start()
        settled("connected")


@pytest.mark.community
def test_the_guard_keeps_a_worker_alive_under_parallel_reading_of_compressed_chunks(
    runtime: Runtime,
) -> None:
    """Each connection would like parallel plans: with Citus beside it such a plan kills the server."""
    worker = runtime.workers[0]
    for statement in (
        "create table public.hot (ts timestamptz not null, k int, v float8)",
        "select create_hypertable('public.hot', by_range('ts', interval '1 day'))",
        "insert into public.hot select t, s, random() from generate_series(timestamptz"
        " '2026-01-01', '2026-01-04', '1 minute') as t, generate_series(1, 50) as s",
        "alter table public.hot set (timescaledb.compress, timescaledb.compress_segmentby = 'k')",
        "select compress_chunk(c) from show_chunks('public.hot') as c",
        "analyze public.hot",
    ):
        ask(worker.url(), statement)
    postmaster, errors = worker.pid, []
    wish = (
        "set parallel_setup_cost = 0; set parallel_tuple_cost = 0;"
        " set min_parallel_table_scan_size = 0"
    )
    queries = (
        "select sum(v), count(*) from public.hot",
        "select time_bucket('1 hour', ts) as b, k, avg(v) from public.hot group by b, k",
        "select k, max(v) from public.hot where v > 0.5 group by k order by k",
    )

    def hammer() -> None:
        deadline = time.monotonic() + SECONDS
        try:
            with psycopg.connect(worker.url(), autocommit=True) as connection:
                connection.execute(wish)
                while time.monotonic() < deadline:
                    for query in queries:
                        connection.execute(query).fetchall()
        except psycopg.Error as exc:
            errors.append(exc)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert worker.pid == postmaster
    guarded, unguarded = (
        str(ask(worker.url(), f"{wish}; set {GUARD} = {value}; explain {queries[0]}"))
        for value in ("default", "2")
    )
    assert "ColumnarScan" in guarded and "Gather" not in guarded
    assert "Gather" in unguarded  # what the guard keeps from being run
