"""A Redis of the tests' own, to be killed, emptied and frozen."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.local.account import account_for
from app.local.credentials import free_port
from app.local.redis_server import RedisServer


class Cache:
    """A Redis of the tests' own."""

    def __init__(self, home: Path) -> None:
        self.server = RedisServer(home, account_for(home), home / "log")
        self.port = free_port()
        self.url = f"redis://:secret@127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)

    def start(self) -> None:
        self.server.start(port=self.port, password="secret")

    def kill9(self) -> None:
        self.server.kill9()

    def signal(self, number: signal.Signals) -> None:
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, number)

    def calls(self) -> int:
        """Script calls so far."""
        stats: Any = self.client.info("commandstats")
        return sum(
            int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("eval", "evalsha")
        )


@pytest.fixture(scope="module")
def redis_home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headwater-redis-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def redis_server(redis_home: Path) -> Iterator[Cache]:
    made = Cache(redis_home)
    made.start()
    yield made
    made.client.close()
    made.kill9()


@pytest.fixture
def cache(redis_server: Cache) -> Cache:
    """Running and empty, whatever the test before did to it."""
    redis_server.start()
    redis_server.client.flushall()
    redis_server.client.script_flush()
    return redis_server
