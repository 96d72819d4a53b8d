"""A real S3 store: MinIO, installed the way its makers describe and kept in .headwater/tools.

`HEADWATER_TEST_MINIO` names a program that is there already. Where it can't be had (no Go, no network),
the tests that need it are skipped by name. MinIO's community edition is no longer maintained: nothing but
tests runs it. `Road` is the way to it, which can be slow or break.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from minio import Minio

from app.local.credentials import free_port
from app.paths import ROOT

TOOLS = ROOT / ".headwater" / "tools"
MODULE = "github.com/minio/minio@latest"
BUILD_SECONDS = 1500
KEY, SECRET = "headwater-test", "headwater-test-secret"


def find_minio() -> Path | None:
    """The program, built once; None where it can't be had."""
    named = os.environ.get("HEADWATER_TEST_MINIO")
    if named:
        return Path(named)
    program = TOOLS / "minio"
    if program.exists():
        return program
    found = shutil.which("minio")
    if found:
        return Path(found)
    go = shutil.which("go")
    if go is None:
        return None
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            environment = {**os.environ, "GOBIN": str(TOOLS)}
            try:
                subprocess.run(
                    [go, "install", MODULE],
                    env=environment,
                    check=True,
                    capture_output=True,
                    timeout=BUILD_SECONDS,
                )
            except (subprocess.SubprocessError, OSError):
                return None
    return program if program.exists() else None


class Store:
    """A running MinIO with one bucket."""

    bucket = "readings"

    def __init__(self, program: Path, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process = subprocess.Popen(
            [program, "server", "--quiet", "--address", f"127.0.0.1:{self.port}", folder / "data"],
            env={
                **os.environ,
                "MINIO_ROOT_USER": KEY,
                "MINIO_ROOT_PASSWORD": SECRET,
                "HOME": str(folder),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.endpoint}/minio/health/ready", timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        self.client = Minio(
            endpoint=f"127.0.0.1:{self.port}", access_key=KEY, secret_key=SECRET, secure=False
        )
        self.client.make_bucket(bucket_name=self.bucket)

    def files(self, prefix: str) -> list[str]:
        """Names of the objects under a prefix."""
        found = self.client.list_objects(bucket_name=self.bucket, prefix=prefix, recursive=True)
        return [one.object_name for one in found if one.object_name]

    def close(self) -> None:
        """Over."""
        self.process.kill()
        self.process.wait()


class Road:
    """A TCP road to the store that can be made slow, or be cut after so many bytes of one upload."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay = 0.0
        self.cut_after: int | None = None
        self.cuts = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No new connections."""
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_upload: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(4096):
                time.sleep(self.delay)
                passed += len(piece)
                if is_upload and self.cut_after is not None and passed > self.cut_after:
                    self.cuts += 1
                    break
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def s3() -> Iterator[Store]:
    """The store of the run."""
    program = find_minio()
    if program is None:
        pytest.skip("MinIO can't be had here: install Go, or set HEADWATER_TEST_MINIO")
    with tempfile.TemporaryDirectory(prefix="headwater-s3-") as folder:
        store = Store(program, Path(folder))
        try:
            yield store
        finally:
            store.close()
