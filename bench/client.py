"""The load: prebuilt HTTP/1.1 requests over keep-alive connections, as cheaply as Python can.

One epoll loop and plain sockets cost some microseconds a request, an HTTP library ten times that, and
the client's processor time is the server's on a small machine. Closed loop: each connection sends its
next request when it has its answer. Open loop (`rate`): requests are due at fixed times; one that finds
no idle connection is late, and its latency counts from when it was due. A 503 that says when to come
again ends a run, unless it is `patient`, as senders are: the request is sent again, the refusal counted.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
STUCK_SECONDS = 60.0
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)\r\n", re.IGNORECASE)


class LoadError(Exception):
    """The server did not do what the load needs."""


@dataclass
class Outcome:
    """What came of a run."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Seconds from the first byte sent (or due) to the last byte received, in order of arrival."""
    bodies: list[bytes] = field(default_factory=list)
    """The answers."""
    refused: int = 0
    """Requests that were asked to come again later, and did."""


class Line:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.rest: memoryview | None = None
        self.got = b""
        self.started = 0.0
        self.request = b""

    def push(self) -> bool:
        """Send on; whether all is sent."""
        while self.rest:
            try:
                sent = self.socket.send(self.rest)
            except BlockingIOError:
                return False
            self.rest = self.rest[sent:]
        self.rest = None
        return True


def answer(got: bytes) -> tuple[int, bytes] | None:
    """Status and body once the answer is complete. Raises LoadError where it has no length."""
    head = got.find(b"\r\n\r\n")
    if head < 0:
        return None
    if got[9:12] == b"204":
        return 204, b""
    at = got.lower().find(b"content-length:", 0, head)
    if at < 0:
        raise LoadError(f"an answer without Content-Length: {got[:200]!r}")
    length = int(got[at + 15 : got.find(b"\r\n", at)])
    if len(got) < head + 4 + length:
        return None
    return int(got[9:12]), got[head + 4 : head + 4 + length]


def run(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    rate: float | None = None,
    until: Callable[[], bool] = lambda: False,
    patient: bool = False,
) -> Outcome:
    """Send all requests, or until told to stop. Raises LoadError on any answer but 2xx."""
    lines = [Line(port) for _ in range(connections)]
    try:
        return _Loop(lines, requests, rate, until, patient).run()
    finally:
        for line in lines:
            line.socket.close()


class _Loop:
    def __init__(
        self,
        lines: list[Line],
        requests: Sequence[bytes],
        rate: float | None,
        until: Callable[[], bool],
        patient: bool,
    ) -> None:
        self.idle = deque(lines)
        self.requests = requests
        self.gap = 1.0 / rate if rate else 0.0
        self.until = until
        self.patient = patient
        self.again: deque[tuple[float, Line]] = deque()
        """Who was refused, and when each comes again, soonest first."""
        self.sent = 0
        self.under_way = 0
        self.outcome = Outcome(0.0)
        self.epoll = select.epoll()
        self.by_number = {line.socket.fileno(): line for line in lines}
        for number in self.by_number:
            self.epoll.register(number, select.EPOLLIN)

    def run(self) -> Outcome:
        began = time.perf_counter()
        heard = began
        while True:
            wait = self._send(began)
            if self.again:
                wait = min(1.0 if wait is None else wait, self._send_again())
            if not self.under_way and wait is None:
                break
            events = self.epoll.poll(1.0 if wait is None else wait)
            for number, event in events:
                self._event(self.by_number[number], event)
            now = time.perf_counter()
            heard = now if events or not self.under_way else heard
            if now - heard > STUCK_SECONDS:
                raise LoadError(f"no answer for {STUCK_SECONDS:.0f} s")
        self.outcome.seconds = time.perf_counter() - began
        self.epoll.close()
        return self.outcome

    def _send(self, began: float) -> float | None:
        """Send what is due; seconds until the next is, None where nothing is left or all are busy."""
        while self.sent < len(self.requests):
            if self.until():
                self.sent = len(self.requests)
                break
            due = began + self.sent * self.gap
            now = time.perf_counter()
            if self.gap and due > now:
                return due - now
            if not self.idle:
                return None
            line = self.idle.popleft()
            line.started = due if self.gap else now
            line.request = self.requests[self.sent]
            self.sent += 1
            self.under_way += 1
            self._push(line)
        return None

    def _push(self, line: Line) -> None:
        line.rest = memoryview(line.request)
        if not line.push():
            self.epoll.modify(line.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _send_again(self) -> float:
        """Send what was refused and is due again; seconds until the next is."""
        while self.again:
            due, line = self.again[0]
            wait = due - time.perf_counter()
            if wait > 0:
                return wait
            self.again.popleft()
            self._push(line)
        return 1.0

    def _event(self, line: Line, event: int) -> None:
        if event & select.EPOLLOUT and line.push():
            self.epoll.modify(line.socket.fileno(), select.EPOLLIN)
        if not event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            part = line.socket.recv(1 << 20)
        except BlockingIOError:
            return
        if not part:
            raise LoadError("the server closed a connection in use")
        line.got = line.got + part if line.got else part
        found = answer(line.got)
        if found is None:
            return
        status, body = found
        if status == 503 and self.patient:
            later = RETRY_AFTER.search(line.got)
            if later is not None:
                line.got = b""
                self.outcome.refused += 1
                due = time.perf_counter() + int(later[1])
                self.again = deque(sorted([*self.again, (due, line)], key=lambda one: one[0]))
                return
        if not 200 <= status < 300:
            raise LoadError(f"answer {status}: {body[:300]!r}")
        self.outcome.latencies.append(time.perf_counter() - line.started)
        self.outcome.bodies.append(body)
        line.got = b""
        self.under_way -= 1
        self.idle.append(line)
