"""`headwater cluster …` in a process of its own, to be killed where a test wants it."""

import os
import subprocess
import sys

import pytest
from fix_cluster import Cluster

from app.paths import ROOT

MAIN = "from app.cli import main; main()"


class Command:
    """`headwater cluster …` in a process of its own."""

    def __init__(self, cluster: Cluster, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "cluster", *words],
            cwd=ROOT,
            env=os.environ | {"OWNER_DATABASE_URL": cluster.url()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def wait_for(self, word: str) -> None:
        """Until it says so; everything it said is kept."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if word in line:
                return
        pytest.fail(
            f"never said {word}: {self.said} {self.process.stderr and self.process.stderr.read()}"
        )

    def kill9(self) -> None:
        """As the kernel does."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Exit status, and what it had to say on standard error."""
        _, complaint = self.process.communicate(timeout=120)
        return self.process.returncode, complaint
