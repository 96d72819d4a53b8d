"""`kill -9` at every state of an export: the next run goes on, nothing is lost, nothing is there twice.

A lock makes the process wait at a known point; then it is killed for good, and the lock is let go.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from fix_archive import DAY, Archive

WAIT_SECONDS = 60.0


@contextmanager
def holding(archive: Archive, statement: str, url: str = "") -> Iterator[psycopg.Connection]:
    """A transaction that holds what the statement locks, elsewhere if `url` says so."""
    with psycopg.connect(url or archive.database.url()) as line:
        line.execute(statement)  # type: ignore[call-overload]
        yield line
        line.rollback()


def until(what: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never came to that point"
        time.sleep(0.02)


def waits_for(archive: Archive, words: str) -> Callable[[], bool]:
    """Whether a statement with such words waits for a lock, on any node.

    Who writes a table that every node has asks the first of them for its lock in other words.
    """

    def ask() -> bool:
        for url in archive.database.urls().values():
            with psycopg.connect(url) as line:
                found = line.execute(
                    "select from pg_locks as l"
                    " join pg_stat_activity as a using (pid)"
                    " where not l.granted and a.datname = current_database()"
                    " and a.query ~* %s",
                    (f"{words}|lock_shard_resources",),
                )
                if found.rowcount:
                    return True
        return False

    return ask


def some_chunk(archive: Archive) -> tuple[str, str]:
    """A chunk of readings, and where it is."""
    for url in reversed(archive.database.urls().values()):
        with psycopg.connect(url) as line:
            found = line.execute(
                "select format('%I.%I', chunk_schema, chunk_name)"
                " from timescaledb_information.chunks"
                " where hypertable_schema = 'telemetry' and hypertable_name ~ '^reading(_[0-9]+)?$'"
            ).fetchone()
            if found:
                return found[0], url
    raise AssertionError("no chunk anywhere")


def kill(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def run_to_the_end(archive: Archive) -> None:
    """Runs, until the dead process's sessions have noticed and everything is dropped."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        done = archive.run()
        if done.is_mine and set(archive.states()) == {"dropped"} and not done.problems:
            break
        assert time.monotonic() < deadline, done
        time.sleep(0.2)
    archive.assert_nothing_lost()
    archive.assert_rollups_are_whole()
    assert archive.hot() == {}
    assert archive.run().moved == 0


def fill(archive: Archive, kind: str) -> None:
    """A first export, or one of late readings."""
    sensors = archive.make_tenant("a")
    archive.fill(sensors)
    if kind == "late":
        archive.run()
        archive.store(
            {(DAY + timedelta(hours=5, seconds=n), sensors[0], 1): (50.0 + n, 2) for n in range(60)}
        )
    else:
        archive.lake(is_writer=True).close()  # the tables that the test locks


KINDS = pytest.mark.parametrize("kind", ["first", "late"])


@KINDS
def test_killed_while_the_lake_commits(archive: Archive, kind: str) -> None:
    fill(archive, kind)
    with holding(archive, "lock table lake.ducklake_data_file in exclusive mode"):
        process = archive.command("run")
        until(waits_for(archive, "ducklake_data_file"), process)
        kill(process)
        assert archive.states().get("pending") == 1
        archive.assert_nothing_lost()
    run_to_the_end(archive)


@KINDS
def test_killed_between_the_lakes_commit_and_ours(archive: Archive, kind: str) -> None:
    fill(archive, kind)
    with holding(archive, "lock table lake.ducklake_data_file in exclusive mode") as first:
        process = archive.command("run")
        until(waits_for(archive, "ducklake_data_file"), process)
        rows = "select from archive.export where state <> 'dropped' for update"
        with holding(archive, rows):
            first.rollback()
            until(waits_for(archive, "update archive.export"), process)
            kill(process)
            assert archive.states().get("pending") == 1
            archive.assert_nothing_lost()
            # nobody is left to finish the statement that waits
            archive.all(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name in ('headwater-archive', 'headwater-lake')"
            )
    run_to_the_end(archive)


@KINDS
def test_killed_when_exported(archive: Archive, kind: str) -> None:
    fill(archive, kind)
    with holding(archive, "lock table archive.export_sensor in exclusive mode"):
        process = archive.command("run")
        until(waits_for(archive, "archive.export_sensor"), process)
        kill(process)
        assert archive.states().get("exported") == 1
        archive.assert_nothing_lost()
    run_to_the_end(archive)


@KINDS
def test_killed_when_verified(archive: Archive, kind: str) -> None:
    fill(archive, kind)
    chunk, where = some_chunk(archive)
    with holding(archive, f"lock table {chunk} in access share mode", where):
        process = archive.command("run")
        until(waits_for(archive, "drop_chunk|chunk_drop"), process)
        kill(process)
        assert archive.states().get("verified") == 1
        archive.assert_nothing_lost()
    run_to_the_end(archive)


def test_killed_while_the_chunk_is_dropped(archive: Archive) -> None:
    fill(archive, "first")
    with holding(archive, "lock table archive.restored in share row exclusive mode"):
        process = archive.command("run")
        until(waits_for(archive, "archive.drop_chunk"), process)
        kill(process)
        assert archive.states().get("verified") == 1
    run_to_the_end(archive)


def test_killed_in_a_merge(archive: Archive) -> None:
    fill(archive, "late")
    with holding(archive, "lock table archive.restored in share row exclusive mode"):
        process = archive.command("run")
        until(waits_for(archive, "archive.restored"), process)
        kill(process)
        assert archive.states().get("pending") == 1
        archive.assert_nothing_lost()
    run_to_the_end(archive)


def test_killed_at_any_time(archive: Archive) -> None:
    """No lock, just bad luck: three days, and a kill after each of many delays."""
    sensors = archive.make_tenant("a")
    for day in range(3):
        archive.fill(sensors, day=day)
    for delay in (0.6, 1.0, 1.4, 1.8, 2.2):
        process = archive.command("run")
        time.sleep(delay)
        if process.poll() is None:
            kill(process)
        archive.assert_nothing_lost()
    run_to_the_end(archive)


def test_files_of_a_killed_export_are_cleaned_up(archive: Archive) -> None:
    fill(archive, "first")
    with holding(archive, "lock table lake.ducklake_data_file in exclusive mode"):
        process = archive.command("run")
        until(waits_for(archive, "ducklake_data_file"), process)
        kill(process)
        archive.all(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'headwater-lake'"
        )
    assert len(list(archive.folder.rglob("*.parquet"))) == 1
    run_to_the_end(archive)
    assert len(list(archive.folder.rglob("*.parquet"))) == 1
