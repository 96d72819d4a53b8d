"""A private Redis or Valkey that keeps nothing on disk: it holds only what may vanish.

Debian's redis-tools brings the server's program under the name redis-check-rdb, without a system
service; the program decides by the name it is called with. The configuration, password included,
goes in through standard input and is in no file and no command line.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from app.errors import CommandError
from app.local import processes
from app.local.account import Account
from app.local.credentials import HOST
from app.local.postgres import PortTakenError

NAME = "redis"  # of its pid file
START_SECONDS = 10.0
STOP_SECONDS = 10.0


class RedisServer:
    """The server whose working folder and pid file are in `home`."""

    def __init__(self, home: Path, account: Account, log: Path) -> None:
        self.home = home
        self.account = account
        self.log = log

    @property
    def pid(self) -> int | None:
        """The server's pid, if it is alive."""
        return processes.pid_of(NAME, run=self.home)

    def start(self, *, port: int, password: str) -> None:
        """Start and wait until it answers; nothing to do if it runs already."""
        if self.pid is not None:
            return
        program = find_program()
        configuration = "\n".join(
            [
                f"bind {HOST}",
                f"port {port}",
                f"requirepass {password}",
                'save ""',
                "appendonly no",
                "maxmemory 256mb",
                "maxmemory-policy allkeys-lru",
                "daemonize no",
                "",
            ]
        )
        reading, writing = os.pipe()
        with processes.open_log(self.log) as output:
            begin = output.seek(0, os.SEEK_END)
            arguments = self.account.popen_arguments() | {"cwd": str(self.home)}
            pid = processes.launch(
                ["redis-server", "-"],
                executable=str(program),
                stdin=reading,
                stdout=output,
                stderr=output,
                **arguments,
            )
        os.close(reading)
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, configuration.encode())
        os.close(writing)
        processes.register(NAME, pid, ["redis-server"], run=self.home)
        if self._wait_answer(pid, port):
            return
        text = self.log.read_bytes()[begin:].decode(errors="replace")
        if "Address already in use" in text:
            raise PortTakenError
        raise CommandError(f"Redis didn't start: see {self.log}")

    def stop(self) -> bool:
        """Stop; whether it was running."""
        return processes.stop(NAME, run=self.home, seconds=STOP_SECONDS)

    def kill9(self) -> None:
        """End it without warning."""
        pid = self.pid
        if pid is not None:
            processes.terminate(pid, signal.SIGKILL, seconds=STOP_SECONDS)

    def _wait_answer(self, pid: int, port: int) -> bool:
        def settled() -> bool:
            return _answers(port) or not processes.is_running(pid)

        return processes.wait_until(settled, seconds=START_SECONDS) and processes.is_running(pid)


def find_program() -> Path:
    """The server's program, under whichever name this machine has it."""
    for name in ("redis-server", "valkey-server", "redis-check-rdb", "valkey-check-rdb"):
        found = shutil.which(name)
        if found and _is_server(Path(found)):
            return Path(found).resolve()
    raise CommandError("there is no Redis or Valkey on this machine: run `make setup`")


def _is_server(program: Path) -> bool:
    done = subprocess.run(
        ["redis-server", "--version"],
        executable=program,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and "server v=" in done.stdout


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False
