"""Processes that outlive the command which started them, each with a file that says which it is.

A registered process is known by its pid *and* its start time, so a pid that the kernel gave to
somebody else meanwhile is never signalled. Each leads a process group of its own: its workers go
with it, even where the leader was killed with -9.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from app.errors import CommandError
from app.local.account import hand_over
from app.paths import STATE

RUN = STATE / "run"
STOP_SECONDS = 15.0
LOG_ROTATES_AT_BYTES = 16 * 2**20

# Children of this very process, kept so that a dead one can be reaped and is no zombie.
_children: dict[int, "subprocess.Popen[bytes]"] = {}


class Registered(msgspec.Struct, frozen=True):
    """A pid file's content."""

    pid: int
    started: int
    """Clock ticks after boot, field 22 of /proc/<pid>/stat."""
    argv: tuple[str, ...] = ()


def spawn(
    name: str,
    argv: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    run: Path = RUN,
) -> int:
    """Start `argv` in the background as `name`, output appended to `log`; its pid.

    Refused while a process of that name is alive. `env` is added to the present environment.
    """
    if alive(name, run=run):
        raise CommandError(f"{name} runs already: stop it with `headwater dev down`")
    with open_log(log) as output:
        pid = launch(argv, stdout=output, stderr=output, cwd=cwd, env={**os.environ, **(env or {})})
    register(name, pid, [str(word) for word in argv], run=run)
    return pid


def launch(argv: Sequence[str | Path], **popen_arguments: Any) -> int:
    """Start a program in its own session, without input unless `stdin` is given; its pid."""
    popen_arguments.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen(
        [str(word) for word in argv], start_new_session=True, **popen_arguments
    )
    _children[process.pid] = process
    return process.pid


def register(name: str, pid: int, argv: Sequence[str] = (), *, run: Path = RUN) -> None:
    """Write the pid file; a process may also register itself."""
    run.mkdir(parents=True, exist_ok=True)
    entry = Registered(pid=pid, started=_started(pid) or 0, argv=tuple(argv))
    temporary = run / f".{name}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(entry))
    temporary.replace(_pid_file(name, run))


def pid_of(name: str, *, run: Path = RUN) -> int | None:
    """The pid of a registered process that is alive."""
    entry = _read(name, run)
    return entry.pid if entry is not None and is_same(entry.pid, entry.started) else None


def alive(name: str, *, run: Path = RUN) -> bool:
    """Whether the registered process lives."""
    return pid_of(name, run=run) is not None


def names(*, run: Path = RUN) -> list[str]:
    """Every registered name, alive or not."""
    return sorted(path.stem for path in run.glob("*.pid"))


def stop(name: str, *, run: Path = RUN, seconds: float = STOP_SECONDS) -> bool:
    """Ask the process to end, insist after `seconds`; whether there was anything to stop."""
    entry = _read(name, run)
    if entry is None:
        return False
    stopped = False
    if is_same(entry.pid, entry.started):
        stopped = True
        terminate(entry.pid, signal.SIGTERM, seconds=seconds)
    if not is_running(entry.pid):  # else the number belongs to somebody else by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(entry.pid, signal.SIGKILL)
            stopped = True
    _pid_file(name, run).unlink(missing_ok=True)
    return stopped


def stop_all(*, run: Path = RUN) -> list[str]:
    """Stop every registered process; the names of those that were running."""
    return [name for name in names(run=run) if stop(name, run=run)]


def terminate(pid: int, sig: signal.Signals, *, seconds: float) -> None:
    """Send `sig`, and SIGKILL to one that is still there after `seconds`."""
    started = _started(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)
    if not wait_until(lambda: not is_same(pid, started), seconds=seconds):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_same(pid, started), seconds=5)


def is_running(pid: int) -> bool:
    """Whether the pid is in use by something that is no zombie."""
    return _started(pid) is not None


def is_same(pid: int, started: int | None) -> bool:
    """Whether the pid is still the process that began at `started`."""
    return started is not None and _started(pid) == started


def wait_until(done: Callable[[], bool], *, seconds: float, step: float = 0.02) -> bool:
    """Poll `done`; False when `seconds` ran out."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


def open_log(path: Path) -> BinaryIO:
    """Open for appending; one predecessor is kept when it has grown large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_ROTATES_AT_BYTES:
            path.replace(path.with_suffix(".log.1"))
    # 0600: a slow statement is logged with its values
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    hand_over(descriptor, path.parent)
    return os.fdopen(descriptor, "ab")


def _started(pid: int) -> int | None:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _pid_file(name: str, run: Path) -> Path:
    return run / f"{name}.pid"


def _read(name: str, run: Path) -> Registered | None:
    try:
        return msgspec.json.decode(_pid_file(name, run).read_bytes(), type=Registered)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:  # cut off by a crash: nothing to identify a process by
        _pid_file(name, run).unlink(missing_ok=True)
        return None
