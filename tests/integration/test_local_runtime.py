"""The local runtime on real servers: idempotent, hard to kill, one's own."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import psycopg
import pytest
import redis
from click.testing import CliRunner

from app.errors import CommandError
from app.local import cli, credentials, doctor_cli, processes, relay
from app.local.runtime import Runtime
from app.local.temporary import sweep, temporary
from app.paths import ROOT

START = (
    "import sys; from pathlib import Path; from app.local.runtime import Runtime;"
    " Runtime(Path(sys.argv[1]), settings={'shared_buffers': '128MB'}).start()"
)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")


@pytest.fixture(scope="module")
def shared() -> Iterator[Runtime]:
    with temporary() as runtime:
        yield runtime


@pytest.fixture
def runtime(shared: Runtime) -> Runtime:
    """The module's runtime, up, whatever the test before did to it."""
    return shared.start()


@pytest.fixture
def empty(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A state folder that the servers' user can reach, removed with all that runs from it."""
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        yield state
        Runtime(state).destroy()


@pytest.fixture
def headwater(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Commands act on the module's runtime instead of the checkout's."""
    monkeypatch.setattr(cli, "Runtime", partial(Runtime, runtime.folder.path))
    return CliRunner()


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def start_elsewhere(state: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", START, str(state)], cwd=ROOT)


def test_every_role_logs_in(runtime: Runtime) -> None:
    for url in (
        runtime.superuser_url,
        runtime.owner_url,
        runtime.app_url,
        runtime.ingest_url,
        runtime.analyst_url,
        runtime.grafana_url,
    ):
        assert f"//{value(url, 'select current_user')}:" in url


def test_only_the_superuser_is_one(runtime: Runtime) -> None:
    query = "select array_agg(rolname::text) from pg_roles where rolsuper"
    assert value(runtime.superuser_url, query) == ["postgres"]


def test_a_wrong_password_is_refused(runtime: Runtime) -> None:
    url = runtime.app_url.replace(runtime.credentials.passwords["headwater_app"], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_servers_listen_on_loopback_only(runtime: Runtime) -> None:
    assert value(runtime.superuser_url, "show listen_addresses") == "127.0.0.1"
    assert value(runtime.superuser_url, "show unix_socket_directories") == ""
    assert redis.Redis.from_url(runtime.redis_url).config_get("bind") == {"bind": "127.0.0.1"}


def test_servers_are_not_root(runtime: Runtime) -> None:
    for pid in (runtime.pg_pid, runtime.redis_pid):
        assert Path(f"/proc/{pid}").stat().st_uid != 0


def test_pages_have_checksums(runtime: Runtime) -> None:
    assert value(runtime.superuser_url, "show data_checksums") == "on"


def test_redis_keeps_nothing_on_disk(runtime: Runtime) -> None:
    client = redis.Redis.from_url(runtime.redis_url)
    assert client.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def test_redis_wants_its_password(runtime: Runtime) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=runtime.credentials.redis_port).ping()


def test_starting_again_changes_nothing(runtime: Runtime) -> None:
    before = (runtime.pg_pid, runtime.redis_pid, runtime.folder.env.read_text())
    Runtime(runtime.folder.path).start()
    assert (runtime.pg_pid, runtime.redis_pid, runtime.folder.env.read_text()) == before


def test_committed_rows_survive_kill_9(runtime: Runtime) -> None:
    with psycopg.connect(runtime.superuser_url) as connection:
        connection.execute("create table if not exists survives (n int)")
        connection.execute("insert into survives values (1)")
    runtime.kill9_postgres()
    runtime.kill9_redis()
    assert (runtime.pg_pid, runtime.redis_pid) == (None, None)
    runtime.start()
    assert value(runtime.superuser_url, "select sum(n) from survives") == 1
    assert redis.Redis.from_url(runtime.redis_url).ping()


def test_postmaster_killed_alone_leaves_nothing_in_the_way(runtime: Runtime) -> None:
    with psycopg.connect(runtime.app_url) as busy:
        assert runtime.pg_pid is not None
        os.kill(runtime.pg_pid, signal.SIGKILL)
        runtime.start()
        with pytest.raises(psycopg.OperationalError):
            busy.execute("select 1")


def test_a_pid_file_that_names_somebody_else_is_stale(runtime: Runtime) -> None:
    runtime.stop()
    (runtime.postgres.data / "postmaster.pid").write_text(f"{os.getppid()}\nx\n0\n1\n\n\n\nready\n")
    assert runtime.pg_pid is None
    runtime.start()
    assert value(runtime.app_url, "select 1") == 1


def test_lost_passwords_are_replaced(runtime: Runtime) -> None:
    old = runtime.credentials
    runtime.folder.env.unlink()
    again = Runtime(runtime.folder.path, settings=runtime.settings).start()
    try:
        assert again.credentials.passwords != old.passwords
        assert value(again.app_url, "select 1") == 1
        assert redis.Redis.from_url(again.redis_url).ping()
    finally:
        runtime._credentials = None


def test_ports_stay_over_a_restart(runtime: Runtime) -> None:
    before = runtime.environment()
    assert runtime.restart().environment() == before


def test_a_port_that_somebody_took_is_left_to_him(runtime: Runtime) -> None:
    runtime.stop()
    before = runtime.credentials
    with socket.create_server(("127.0.0.1", before.postgres_port)):
        again = Runtime(runtime.folder.path, settings=runtime.settings).start()
        runtime._credentials = None
        assert again.credentials.postgres_port != before.postgres_port
        assert again.credentials.redis_port == before.redis_port
        assert value(again.app_url, "select 1") == 1


def test_settings_of_the_caller_win(runtime: Runtime) -> None:
    runtime.stop()
    settings = runtime.settings | {"work_mem": "12MB"}
    Runtime(runtime.folder.path, settings=settings).start()
    assert value(runtime.app_url, "show work_mem") == "12MB"


def test_several_at_once_start_one(empty: Path) -> None:
    starters = [start_elsewhere(empty) for _ in range(3)]
    assert [starter.wait(timeout=60) for starter in starters] == [0, 0, 0]
    assert value(Runtime(empty).app_url, "select 1") == 1


def test_a_start_killed_anywhere_is_made_good_by_the_next(empty: Path) -> None:
    dice = random.Random(7)
    for _ in range(6):
        starter = start_elsewhere(empty)
        time.sleep(dice.uniform(0.2, 1.2))
        starter.kill()
        starter.wait()
    runtime = Runtime(empty).start()
    assert value(runtime.app_url, "select 1") == 1
    assert redis.Redis.from_url(runtime.redis_url).ping()


def test_stopping_stops_registered_processes(runtime: Runtime) -> None:
    pid = processes.spawn(
        "serve",
        [sys.executable, "-c", "import time; time.sleep(60)"],
        runtime.folder.log / "serve.log",
        run=runtime.folder.run,
    )
    assert runtime.stop() == ["serve", "postgres", "redis"]
    assert not processes.is_running(pid)
    assert runtime.stop() == []


@is_root
def test_a_folder_the_servers_cannot_reach_has_its_data_elsewhere() -> None:
    with tempfile.TemporaryDirectory(prefix="headwater-") as closed:  # mode 0700
        runtime = Runtime(Path(closed) / "state", settings={"shared_buffers": "128MB"}).start()
        data = runtime.folder.postgres
        assert data.parent == Path("/var/lib/headwater")
        assert (runtime.folder.path / "postgres").is_symlink()
        assert value(runtime.app_url, "select 1") == 1
        runtime.restart()
        assert runtime.folder.postgres == data
        runtime.destroy()
        assert not data.exists()


def test_missing_programs_name_the_remedy(empty: Path) -> None:
    with pytest.raises(CommandError, match="run `make setup`"):
        Runtime(empty, bindir=Path("/nowhere")).start()
    with pytest.raises(CommandError, match=r"nothing_like_it is not in .*: run `make setup`"):
        Runtime(empty, preload=["nothing_like_it"]).start()


def test_other_programs_than_the_cluster_was_made_with_are_refused(runtime: Runtime) -> None:
    with pytest.raises(CommandError, match="headwater dev reset"):
        Runtime(runtime.folder.path, bindir=Path("/nowhere")).start()


def test_a_setting_that_stops_the_server_is_named(runtime: Runtime) -> None:
    runtime.stop()
    bad = Runtime(runtime.folder.path, settings={"shared_buffers": "many"})
    with pytest.raises(CommandError, match=r"didn't start .*postgresql.conf.*: see .*postgres.log"):
        bad.start()


def test_temporary_runtimes_of_the_dead_are_swept() -> None:
    script = (
        "import os; from app.local.temporary import temporary\n"
        "with temporary(with_redis=False) as r:"
        " print(r.folder.path, r.pg_pid, flush=True); os._exit(1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    state, pid = done.stdout.split()
    assert Path(state).exists()
    assert processes.is_running(int(pid))
    sweep()
    assert not Path(state).exists()
    assert processes.wait_until(lambda: not processes.is_running(int(pid)), seconds=5)


def test_status_says_what_runs(headwater: CliRunner, runtime: Runtime) -> None:
    up = headwater.invoke(cli.dev, ["status"])
    assert up.exit_code == 0
    assert re.search(rf"PostgreSQL +pid {runtime.pg_pid} +127.0.0.1:\d+ +\d+ MB in", up.output)
    assert headwater.invoke(cli.dev, ["down"]).output == "Stopped postgres, redis.\n"
    down = headwater.invoke(cli.dev, ["status"])
    assert down.exit_code == cli.NOT_RUNNING
    assert re.search(r"PostgreSQL +down", down.output)
    again = headwater.invoke(cli.dev, ["up"])
    assert "Next: headwater migrate" in again.output


def test_psql_logs_in_as_the_role(
    headwater: CliRunner, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(program: str, argv: list[str], env: dict[str, str]) -> None:
        done = subprocess.run(
            argv, executable=program, env=env, capture_output=True, text=True, check=True
        )
        print(done.stdout)

    monkeypatch.setattr(os, "execve", run)
    command = ["psql", "--role", "analyst", "-At", "-c", "select current_user"]
    assert headwater.invoke(cli.dev, command).output.strip() == "headwater_analyst"
    # and through the relay, once that runs
    up = headwater.invoke(cli.dev, ["up"])
    assert f"Relay       127.0.0.1:{runtime.credentials.relay_port}" in up.output
    assert relay.is_up(runtime)
    port = [*command[:-1], "\\echo :PORT"]
    assert headwater.invoke(cli.dev, port).output.strip() == str(runtime.credentials.relay_port)
    assert headwater.invoke(cli.dev, command).output.strip() == "headwater_analyst"
    port[2] = "owner"
    assert headwater.invoke(cli.dev, port).output.strip() == str(runtime.credentials.postgres_port)
    assert re.search(r"relay +pid \d+ +127", headwater.invoke(cli.dev, ["status"]).output)


def test_reset_asks_first(headwater: CliRunner, runtime: Runtime) -> None:
    assert headwater.invoke(cli.dev, ["reset"], input="n\n").exit_code != 0
    assert runtime.pg_pid is not None
    assert headwater.invoke(cli.dev, ["reset", "--yes"]).exit_code == 0
    assert not runtime.folder.env.exists()
    assert not runtime.folder.postgres.exists()
    assert "nothing to remove" in headwater.invoke(cli.dev, ["reset", "--yes"]).output
    runtime._credentials = None


def test_doctor_reports_on_the_server(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in runtime.environment().items():
        monkeypatch.setenv(name, text)
    with psycopg.connect(runtime.superuser_url, autocommit=True) as connection:
        connection.execute("create extension if not exists timescaledb")
    fine = CliRunner().invoke(doctor_cli.doctor, ["--json"])
    assert fine.exit_code == 0
    offer = msgspec.json.decode(fine.stdout)["offer"]
    assert offer["edition"] in ("apache", "community")
    assert offer["timescaledb_version"]
    with psycopg.connect(runtime.superuser_url, autocommit=True) as connection:
        connection.execute("alter system set synchronous_commit = off")
        connection.execute("select pg_reload_conf()")
    assert processes.wait_until(
        lambda: value(runtime.superuser_url, "show synchronous_commit") == "off", seconds=5
    )
    bad = CliRunner().invoke(doctor_cli.doctor)
    assert bad.exit_code == 1
    assert "DANGER  synchronous_commit" in bad.output


def test_doctor_without_a_server_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    port = credentials.free_port()
    monkeypatch.setenv("OWNER_DATABASE_URL", f"postgresql://postgres@127.0.0.1:{port}/x")
    with pytest.raises(CommandError, match="headwater dev up"):
        CliRunner().invoke(doctor_cli.doctor, catch_exceptions=False)
