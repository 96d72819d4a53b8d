"""Load beside what is measured: a process of its own that POSTs fresh batches at a steady rate."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Event

from bench.client import LoadError, run
from bench.load import FORK

STOP_SECONDS = 30.0


@contextlib.contextmanager
def background(
    port: int, requests: Sequence[bytes], *, connections: int, rate: float
) -> Iterator[None]:
    """Send `rate` requests a second while the block runs; nothing where the rate is 0."""
    if not rate:
        yield
        return
    stop = FORK.Event()
    process = FORK.Process(target=_send, args=(port, requests, connections, rate, stop))
    process.start()
    try:
        time.sleep(0.5)
        yield
        if not process.is_alive():
            raise LoadError(f"the load beside the measurement ended early ({process.exitcode})")
    finally:
        stop.set()
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()


def _send(port: int, requests: Sequence[bytes], connections: int, rate: float, stop: Event) -> None:
    run(port, requests, connections=connections, rate=rate, until=stop.is_set)
