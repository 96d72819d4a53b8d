"""The relay of the local runtime: a process beside the servers, for psql over archived readings."""

import sys
from collections.abc import Callable
from pathlib import Path

from app.local import processes
from app.local.credentials import RELAY, is_free
from app.local.runtime import Runtime
from app.paths import ROOT


def start(runtime: Runtime, say: Callable[[str], None]) -> None:
    """Start it unless it runs, on the port that is kept, or on another where that one is taken."""
    if is_up(runtime):
        return

    def spawn(port: int) -> None:
        processes.spawn(
            RELAY,
            [Path(sys.executable).with_name("headwater"), "relay", "--port", str(port)],
            runtime.folder.log / f"{RELAY}.log",
            env=runtime.environment(),
            run=runtime.folder.run,
            cwd=ROOT,
        )
        processes.wait_until(lambda: not is_free(port) or not is_up(runtime), seconds=10)

    runtime.on_a_free_port(RELAY, running=False, start=spawn, say=say)


def is_up(runtime: Runtime) -> bool:
    """Whether it runs."""
    return processes.alive(RELAY, run=runtime.folder.run)
