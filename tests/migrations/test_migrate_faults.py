"""Two migrators at once, one killed half-way, locks that can't be had: with real processes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fix_repository import Repository

from app.errors import CommandError
from app.paths import ROOT

Start = Callable[[], "subprocess.Popen[str]"]
NOTHING_TWICE = "select file from ops.migration group by file having count(*) > 1"


@pytest.fixture
def start(repository: Repository) -> Iterator[Start]:
    """Starts migrators as processes."""
    started: list[subprocess.Popen[str]] = []
    program = Path(__file__).with_name("run_migrator.py")

    def run() -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, program, repository.url, repository.sql.parent],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(repository: Repository, condition: str) -> None:
    """Until the query is true; 20 s at most."""
    deadline = time.monotonic() + 20
    while repository.query(f"select {condition}") != [(True,)]:
        assert time.monotonic() < deadline, f"never true: {condition}"
        time.sleep(0.05)


def busy_with(words: str) -> str:
    return (
        "exists (select from pg_stat_activity where application_name = 'headwater migrate'"
        f" and state = 'active' and query like '%{words}%' and datname = current_database())"
    )


async def test_two_migrators_at_once_both_succeed(repository: Repository, start: Start) -> None:
    for number in range(2, 12):
        repository.write(
            f"migrations/{number:04d}_table.sql",
            f"create table app.t{number} (a int); select pg_sleep(0.05);",
        )
    repository.write("sql/view.sql", "create view app.v as select a from app.t2;")
    both = [start(), start()]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("0002_table.sql  new" in text for text in said) == 1
    assert sum("another migrate or cluster command is running (pid " in text for text in said) == 1
    assert repository.query(NOTHING_TWICE) == []
    assert repository.query("select count(*) from ops.migration") == [(11,)]


async def test_migrator_gives_up_waiting_with_a_clear_message(repository: Repository) -> None:
    repository.write("migrations/0002_slow.sql", "select pg_sleep(1.5);")
    first = asyncio.create_task(repository.migrate())
    await asyncio.sleep(0.5)
    with pytest.raises(
        CommandError, match=r"another migrate or cluster command is running \(pid \d+\) and did not"
    ):
        await repository.run(lock_wait=0.3)
    assert len(await first) == 2


async def test_kill_inside_a_migration_leaves_nothing_of_it(
    repository: Repository, start: Start
) -> None:
    repository.write("migrations/0002_slow.sql", "create table app.t (a int); select pg_sleep(60);")
    process = start()
    wait_for(repository, busy_with("pg_sleep(60)"))
    process.kill()
    repository.write("migrations/0002_slow.sql", "create table app.t (a int);")
    assert await repository.migrate(lock_wait=20) == ["migrations/0002_slow.sql"]
    assert repository.query(NOTHING_TWICE) == []


async def test_kill_inside_sql_leaves_nothing_of_it(repository: Repository, start: Start) -> None:
    repository.write("sql/a.sql", "create view app.v as select 1 as a;")
    repository.write("sql/b.sql", "select pg_sleep(60);")
    process = start()
    wait_for(repository, busy_with("pg_sleep(60)"))
    process.kill()
    assert repository.query("select to_regclass('app.v')") == [(None,)]
    repository.write("sql/b.sql", "select 1;")
    assert await repository.migrate(lock_wait=20) == ["sql/a.sql", "sql/b.sql"]


STEPS = "-- transaction: none\ncreate table app.a (a int);\n{}\ncreate table app.b (a int);\n"


async def test_kill_without_a_transaction_goes_on_where_it_stopped(
    repository: Repository, start: Start
) -> None:
    repository.write("migrations/0002_steps.sql", STEPS.format("select pg_sleep(60);"))
    process = start()
    wait_for(repository, busy_with("pg_sleep(60)"))
    process.kill()
    row = "select statements_done, statements_total, applied_at is null from ops.migration"
    assert repository.query(f"{row} where number = 2") == [(1, 3, True)]
    assert (await repository.states())["migrations/0002_steps.sql"] == "unfinished"
    # The statement that did not go through may be changed, those that did may not.
    changed = STEPS.format("select 1;").replace("app.a ", "app.aa ")
    repository.write("migrations/0002_steps.sql", changed)
    with pytest.raises(CommandError, match="statements already done were edited"):
        await repository.migrate(lock_wait=20)
    repository.write("migrations/0002_steps.sql", STEPS.format("select 1;"))
    assert await repository.migrate(lock_wait=20) == ["migrations/0002_steps.sql"]
    assert repository.query(f"{row} where number = 2") == [(3, 3, False)]
    assert repository.query("select to_regclass('app.b') is not null") == [(True,)]
    assert repository.query(NOTHING_TWICE) == []
    assert (await repository.status()).complaint is None


async def test_index_that_a_kill_left_invalid_is_built_anew(
    repository: Repository, start: Start
) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    await repository.migrate()
    repository.write(
        "migrations/0003_index.sql",
        "-- transaction: none\n-- lock-timeout: 1min\n"
        "create index concurrently if not exists t_a_idx on app.t (a);",
    )
    with psycopg.connect(repository.url) as writer:
        writer.execute("insert into app.t values (1)")  # the index waits for its end
        process = start()
        wait_for(repository, busy_with("create index concurrently"))
        wait_for(repository, "to_regclass('app.t_a_idx') is not null")
        process.kill()
        wait_for(repository, f"not {busy_with('create index concurrently')}")
    valid = "select indisvalid from pg_index where indexrelid = 'app.t_a_idx'::regclass"
    assert repository.query(valid) == [(False,)]
    assert await repository.migrate() == ["migrations/0003_index.sql"]
    assert repository.query(valid) == [(True,)]


async def test_lock_that_is_taken_is_waited_for_in_short_tries(repository: Repository) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    await repository.migrate()
    repository.write(
        "migrations/0003_column.sql", "-- lock-timeout: 50ms\n\nalter table app.t add b int;"
    )
    with psycopg.connect(repository.url) as reader:
        reader.execute("select from app.t")
        with pytest.raises(CommandError, match=r"0003_column\.sql:3: 55P03: .* after 2 tries"):
            await repository.migrate(retry_pauses=(0.01,))
        run = asyncio.create_task(repository.migrate(retry_pauses=(0.2,) * 50))
        await asyncio.sleep(0.4)
    assert await run == ["migrations/0003_column.sql"]
    assert any("trying again in 0.2 s" in line for line in repository.said)


async def test_lock_taken_while_sql_is_applied_repeats_all_of_it(repository: Repository) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    await repository.migrate()
    repository.write("sql/a.sql", "create view app.v as select 1 as a;")
    repository.write("sql/b.sql", "-- lock-timeout: 50ms\nlock table app.t;")
    with psycopg.connect(repository.url) as reader:
        reader.execute("select from app.t")
        run = asyncio.create_task(repository.migrate(retry_pauses=(0.2,) * 50))
        await asyncio.sleep(0.4)
    assert await run == ["sql/a.sql", "sql/b.sql"]
