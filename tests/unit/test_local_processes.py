"""Background processes are found again, stopped with their workers, and never mistaken."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from app.errors import CommandError
from app.local import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-uc",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)",
]
WITH_WORKER = [
    sys.executable,
    "-uc",
    "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', "
    "'import time; time.sleep(60)']); print(p.pid); time.sleep(60)",
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log" / "it.log"


def first_line(log: Path) -> str:
    assert processes.wait_until(lambda: "\n" in log.read_text(), seconds=10)
    return log.read_text().split()[0]


def test_spawned_process_is_alive_until_stopped(run: Path, log: Path) -> None:
    pid = processes.spawn("it", SLEEP, log, run=run)
    assert processes.pid_of("it", run=run) == pid
    assert processes.stop_all(run=run) == ["it"]
    assert not processes.is_running(pid)
    assert processes.names(run=run) == []


def test_stopping_twice_is_no_error(run: Path, log: Path) -> None:
    processes.spawn("it", SLEEP, log, run=run)
    assert processes.stop("it", run=run)
    assert not processes.stop("it", run=run)


def test_one_of_a_name_at_a_time(run: Path, log: Path) -> None:
    processes.spawn("it", SLEEP, log, run=run)
    with pytest.raises(CommandError, match="it runs already"):
        processes.spawn("it", SLEEP, log, run=run)
    processes.stop_all(run=run)


def test_one_that_ignores_sigterm_is_killed(run: Path, log: Path) -> None:
    pid = processes.spawn("it", STUBBORN, log, run=run)
    first_line(log)
    assert processes.stop("it", run=run, seconds=0.1)
    assert not processes.is_running(pid)


def test_workers_go_even_if_their_leader_was_killed(run: Path, log: Path) -> None:
    pid = processes.spawn("it", WITH_WORKER, log, run=run)
    worker = int(first_line(log))
    os.kill(pid, signal.SIGKILL)
    assert processes.wait_until(lambda: not processes.is_running(pid), seconds=5)
    assert processes.is_running(worker)
    assert processes.stop("it", run=run)
    assert processes.wait_until(lambda: not processes.is_running(worker), seconds=5)


def test_a_pid_that_somebody_else_has_now_is_left_alone(run: Path) -> None:
    run.mkdir()
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        entry = processes.Registered(pid=stranger.pid, started=1)
        (run / "it.pid").write_bytes(msgspec.json.encode(entry))
        assert not processes.alive("it", run=run)
        assert not processes.stop("it", run=run)
        assert processes.is_running(stranger.pid)
        stranger.kill()


def test_half_written_pid_file_counts_as_none(run: Path) -> None:
    run.mkdir()
    (run / "it.pid").write_text('{"pid": 1')
    assert not processes.alive("it", run=run)
    assert processes.stop_all(run=run) == []


def test_a_large_log_makes_way(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_ROTATES_AT_BYTES", 10)
    for text in (b"something long", b"new"):
        with processes.open_log(log) as file:
            file.write(text)
    assert log.read_bytes() == b"new"
    assert log.with_suffix(".log.1").read_bytes() == b"something long"
