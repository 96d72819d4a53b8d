"""A coordinator with workers: made whole after any death, wherever its servers end up listening."""

import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from fix_database import MISSING, Database, Server, running

from app.errors import CommandError
from app.local import cli
from app.local.credentials import ROLES
from app.local.runtime import Runtime
from app.local.temporary import temporary
from app.paths import ROOT

SMALL = {"shared_buffers": "64MB"}
START = (
    "import sys; from pathlib import Path; from app.local.runtime import Runtime; Runtime("
    "Path(sys.argv[1]), workers=2, with_redis=False, settings={'shared_buffers': '64MB'}).start()"
)
NODES = "select nodename, nodeport, groupid = 0, isactive, metadatasynced from pg_dist_node"
ROWS = 1000


@pytest.fixture(scope="module")
def shared() -> Iterator[Runtime]:
    with temporary(workers=2, with_redis=False, settings=SMALL) as runtime:
        ask(runtime.superuser_url, "create table public.item (k int primary key, v text)")
        ask(runtime.superuser_url, "select create_distributed_table('public.item', 'k')")
        ask(runtime.superuser_url, "grant all on public.item to headwater_app")
        fill = f"insert into public.item select g, g::text from generate_series(1, {ROWS}) as g"
        ask(runtime.app_url, fill)
        yield runtime


@pytest.fixture
def runtime(shared: Runtime) -> Runtime:
    """The module's runtime, every node up, whatever the test before did to it."""
    return shared.start()


@pytest.fixture
def empty() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        yield state
        Runtime(state).destroy()


@pytest.fixture
def headwater(monkeypatch: pytest.MonkeyPatch, empty: Path) -> CliRunner:
    """Commands act on a state folder that is not there yet."""
    monkeypatch.setattr(cli, "Runtime", partial(Runtime, empty, with_redis=False))
    return CliRunner()


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def is_whole(runtime: Runtime) -> None:
    """Every node has the same, right list of nodes, and every row is found through each."""
    coordinator = runtime.nodes[0]
    expected = {
        ("127.0.0.1", node.port, node.name == coordinator.name, True, True)
        for node in runtime.nodes
    }
    for node in runtime.nodes:
        assert set(ask(node.url(), NODES)) == expected
        assert ask(node.url("headwater_app"), "select count(*) from public.item") == [(ROWS,)]


@pytest.mark.citus
def test_every_node_is_told_of_every_other(runtime: Runtime) -> None:
    assert [worker.name for worker in runtime.workers] == ["worker-1", "worker-2"]
    is_whole(runtime)


@pytest.mark.citus
def test_rows_lie_on_the_workers_and_not_on_the_coordinator(runtime: Runtime) -> None:
    places = ask(
        runtime.superuser_url, "select distinct nodeport from citus_shards order by nodeport"
    )
    assert places == [(port,) for port in sorted(worker.port for worker in runtime.workers)]


@pytest.mark.citus
def test_every_role_logs_in_on_every_node(runtime: Runtime) -> None:
    for node in runtime.nodes:
        for role in ROLES:
            assert ask(node.url(role), "select current_user") == [(role,)]


@pytest.mark.citus
def test_nodes_log_in_on_each_other_with_passwords(runtime: Runtime) -> None:
    for node in runtime.nodes:
        rules = ask(node.url(), "select distinct auth_method from pg_hba_file_rules")
        assert rules == [("scram-sha-256",)]
        passfile = node.cluster.passfile.stat()
        assert passfile.st_mode & 0o777 == 0o600
        assert passfile.st_uid == node.cluster.account.uid


@pytest.mark.citus
def test_every_node_has_what_the_two_extensions_need(runtime: Runtime) -> None:
    query = (
        "select current_setting('shared_preload_libraries'), current_setting('citus.shard_count'),"
        " current_setting('max_parallel_workers_per_gather'),"
        " current_setting('max_prepared_transactions')::int"
        "   >= 2 * current_setting('max_connections')::int,"
        " (select array_agg(extname::text order by oid) from pg_extension where oid > 16384)"
    )
    for node in runtime.nodes:
        expected = ("citus,timescaledb", "4", "0", True, ["citus", "timescaledb"])
        assert ask(node.url(), query)[0][:4] == expected[:4]
        assert set(expected[4]) <= set(ask(node.url(), query)[0][4])


@pytest.mark.citus
def test_a_dead_worker_fails_its_own_rows_only_and_comes_back_alone(runtime: Runtime) -> None:
    worker = runtime.workers[0]
    ((mine,), (other,)) = (
        ask(
            runtime.superuser_url,
            "select k from public.item join citus_shards as s on s.shardid ="
            f" get_shard_id_for_distribution_column('public.item', k) where s.nodeport = {port}"
            " limit 1",
        )[0]
        for port in (worker.port, runtime.workers[1].port)
    )
    worker.kill9()
    assert worker.pid is None
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match=str(worker.port)):
        ask(runtime.app_url, f"update public.item set v = v where k = {mine}")
    assert time.monotonic() - began < 10
    ask(runtime.app_url, f"update public.item set v = v where k = {other}")
    worker.start()
    ask(runtime.app_url, f"update public.item set v = v where k = {mine}")
    is_whole(runtime)


@pytest.mark.citus
def test_a_killed_coordinator_is_made_good_by_the_next_start(runtime: Runtime) -> None:
    runtime.kill9_postgres()
    assert [node.pid is None for node in runtime.nodes] == [True, False, False]
    is_whole(Runtime(runtime.folder.path, with_redis=False, settings=SMALL).start())


@pytest.mark.citus
def test_ports_stay_over_a_restart(runtime: Runtime) -> None:
    before = runtime.environment()
    assert runtime.stop() == ["postgres", "worker-1", "worker-2"]
    assert runtime.start().environment() == before
    is_whole(runtime)


@pytest.mark.citus
def test_nodes_whose_ports_were_taken_are_found_again(runtime: Runtime) -> None:
    runtime.stop()
    coordinator, worker = runtime.nodes[0].port, runtime.workers[1].port
    with (
        socket.create_server(("127.0.0.1", coordinator)),
        socket.create_server(("127.0.0.1", worker)),
    ):
        runtime.start()
        assert runtime.nodes[0].port != coordinator
        assert runtime.workers[1].port != worker
        is_whole(runtime)


@pytest.mark.citus
def test_lost_passwords_are_set_anew_on_every_node(runtime: Runtime) -> None:
    runtime.folder.env.unlink()
    runtime._credentials = None
    is_whole(runtime.start())


@pytest.mark.citus
def test_a_start_killed_anywhere_is_made_good_by_the_next(empty: Path) -> None:
    dice = random.Random(7)
    for _ in range(6):
        starter = subprocess.Popen([sys.executable, "-c", START, str(empty)], cwd=ROOT)
        time.sleep(dice.uniform(0.5, 4))
        starter.kill()
        starter.wait()
    runtime = Runtime(empty, with_redis=False, settings=SMALL, workers=2).start()
    ask(runtime.superuser_url, "create table public.item (k int)")
    ask(runtime.superuser_url, "select create_distributed_table('public.item', 'k')")
    ask(runtime.superuser_url, "grant all on public.item to headwater_app")
    ask(runtime.app_url, f"insert into public.item select generate_series(1, {ROWS})")
    is_whole(runtime)


@pytest.mark.citus
def test_up_adds_workers_and_never_takes_one_away(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = partial(Runtime, runtime.folder.path, with_redis=False, settings=SMALL)
    monkeypatch.setattr(cli, "Runtime", made)
    fewer = CliRunner().invoke(cli.dev, ["up", "--workers", "1"])
    assert isinstance(fewer.exception, CommandError)
    assert "has 2 workers, not 1" in str(fewer.exception)
    assert "headwater cluster drain-worker" in str(fewer.exception)
    more = CliRunner().invoke(cli.dev, ["up", "--workers", "3"])
    assert more.exit_code == 0, more.output
    assert f"worker-3    127.0.0.1:{made().workers[2].port}\n" in more.output
    runtime._credentials = None
    is_whole(runtime)
    status = CliRunner().invoke(cli.dev, ["status"]).output
    assert [line.split()[0] for line in status.splitlines()] == [
        *("PostgreSQL", "worker-1", "worker-2", "worker-3", "Redis")
    ]
    third = runtime.workers[2]
    ask(runtime.superuser_url, f"select citus_remove_node('127.0.0.1', {third.port})")
    drained = CliRunner().invoke(cli.dev, ["up", "--workers", "2"])
    assert drained.exit_code == 0, drained.output
    assert "Removing worker-3, which was drained" in drained.output
    assert third.pid is None and not third.cluster.home.exists()
    runtime._credentials = None
    is_whole(runtime)


@pytest.mark.citus
def test_a_runtime_made_without_workers_gets_none(empty: Path) -> None:
    Runtime(empty, with_redis=False, settings=SMALL).start()
    with pytest.raises(CommandError, match=r"made without workers: .*headwater dev reset"):
        Runtime(empty, with_redis=False, settings=SMALL, workers=1).start()


@pytest.mark.skipif("citus" not in MISSING, reason="this server offers Citus")
def test_a_server_without_citus_names_the_remedy(headwater: CliRunner, empty: Path) -> None:
    refused = headwater.invoke(cli.dev, ["up", "--workers", "2"])
    assert isinstance(refused.exception, CommandError)
    assert "citus is not in" in str(refused.exception)
    assert "set HEADWATER_PG_BINDIR to a server that offers Citus" in str(refused.exception)
    assert not empty.exists()


@pytest.mark.parametrize("number", ["0", "-1", "33", "two", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(headwater: CliRunner, number: str) -> None:
    refused = headwater.invoke(cli.dev, ["up", "--workers", number])
    assert refused.exit_code == 2
    assert "Invalid value for '--workers'" in refused.output


@pytest.fixture(scope="module")
def servers() -> Iterator[Server]:
    with running(workers=2) as server:
        yield server


@pytest.mark.citus
def test_a_cloned_database_is_a_distributed_one_of_its_own(servers: Server) -> None:
    template = Database(servers, servers.create())
    servers.join(template.name)
    template.execute("create table public.item (k int primary key)")
    template.execute("select create_distributed_table('public.item', 'k')")
    template.execute("insert into public.item select generate_series(1, 1000)")
    servers.close(template.name)
    one, two = (Database(servers, servers.create(template.name)) for _ in range(2))
    one.execute("delete from public.item where k > 10")
    two.execute("insert into public.item values (1001)")
    assert one.execute("select count(*) from public.item") == [(10,)]
    assert two.execute("select count(*) from public.item") == [(1001,)]
    assert set(two.urls()) == {"server", "worker-1", "worker-2"}
    for database in (one, two):
        servers.drop(database.name)
    found = "select from pg_database where datname = any(array['{}', '{}'])"
    for node in servers.nodes:
        assert node.execute(found.format(one.name, two.name)) == []


@pytest.mark.citus
def test_a_test_can_kill_a_worker_and_start_it_again(servers: Server) -> None:
    database = Database(servers, servers.create())
    servers.join(database.name)
    database.execute("create table public.item (k int)")
    database.execute("select create_distributed_table('public.item', 'k')")
    servers.workers[0].kill9()
    with pytest.raises(psycopg.OperationalError, match=str(servers.workers[0].port)):
        database.execute("insert into public.item select generate_series(1, 1000)")
    servers.workers[0].start()
    database.execute("insert into public.item select generate_series(1, 1000)")
    assert database.execute("select count(*) from public.item") == [(1000,)]


@pytest.mark.citus
def test_a_database_with_prepared_transactions_is_dropped_all_the_same(servers: Server) -> None:
    database = Database(servers, servers.create())
    with psycopg.connect(servers.workers[0].url(database.name)) as connection:
        connection.execute("create table public.item (k int)")
        connection.execute("prepare transaction 'left'")
    servers.drop(database.name)
    found = f"select from pg_database where datname = '{database.name}'"
    assert [node.execute(found) for node in servers.nodes] == [[], [], []]
