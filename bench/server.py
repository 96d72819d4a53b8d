"""An API process under load: `headwater serve` itself, or bench/noop.py, on a port of its own."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.local.credentials import free_port
from bench.client import HOST, LoadError
from bench.processes import cpu_seconds, family, rss_bytes

START_SECONDS = 30.0
SERVE = ("-c", "from app.cli import main; main()", "serve")
NOOP = ("-m", "bench.noop")


class Server:
    """One granian with its workers."""

    def __init__(self, program: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *program],
                env={**os.environ, **environment, "HEADWATER_PORT": str(self.port)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            line = http.client.HTTPConnection(HOST, self.port, timeout=2)
            try:
                line.request("GET", "/api/status")
                line.getresponse().read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                line.close()
        raise LoadError(f"the server did not start:\n{self._log.read_text()[-2000:]}")

    @property
    def workers(self) -> list[int]:
        """Pids of the processes that answer."""
        return family(self._process.pid)[1:]

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return cpu_seconds(self._process.pid)

    def rss_bytes(self) -> int:
        """Resident memory of the biggest worker."""
        return max(map(rss_bytes, self.workers), default=0)

    def get(self, path: str, key: str) -> bytes:
        """One GET's answer."""
        line = http.client.HTTPConnection(HOST, self.port, timeout=120)
        try:
            line.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            answer = line.getresponse()
            body = answer.read()
        finally:
            line.close()
        if answer.status != 200:
            raise LoadError(f"GET {path}: {answer.status} {body[:300]!r}")
        return body

    def stop(self) -> None:
        """End it and its workers."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
                return
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
