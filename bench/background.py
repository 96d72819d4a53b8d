"""Load beside what is measured: processes of their own that POST fresh batches at steady rates."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event

from bench.client import LoadError, run
from bench.load import FORK

STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Load:
    """One process's share."""

    requests: Sequence[bytes]
    connections: int
    rate: float
    """Requests a second."""


class Refused:
    """How many requests were answered 503 and sent again."""

    def __init__(self) -> None:
        self._count = FORK.Value("q", 0)

    def add(self, count: int) -> None:
        """In whichever process."""
        with self._count.get_lock():
            self._count.value += count

    @property
    def count(self) -> int:
        """So far: of the loads that have ended."""
        return int(self._count.value)


@contextlib.contextmanager
def background(port: int, *loads: Load) -> Iterator[Refused]:
    """Send while the block runs. Raises LoadError where a load ended before the block did.

    Senders that are told to come again later do so; how often that was is known after the block.
    """
    stop = FORK.Event()
    refused = Refused()
    processes = [
        FORK.Process(target=_send, args=(port, load, stop, refused)) for load in loads if load.rate
    ]
    for process in processes:
        process.start()
    try:
        if processes:
            time.sleep(0.5)
        yield refused
        if not all(process.is_alive() for process in processes):
            raise LoadError("the load beside the measurement ended early")
    finally:
        stop.set()
        for process in processes:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _send(port: int, load: Load, stop: Event, refused: Refused) -> None:
    outcome = run(
        port,
        load.requests,
        connections=load.connections,
        rate=load.rate,
        until=stop.is_set,
        patient=True,
    )
    refused.add(outcome.refused)
