"""The load comes again where it is told to, and only where it may."""

import socketserver
import threading
from collections.abc import Iterator

import pytest

from bench.client import LoadError, run

LATER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy"
FOR_GOOD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ngone"
DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Answers(socketserver.StreamRequestHandler):
    """Each request, which is a line here, gets the next answer."""

    script: list[bytes]
    asked: list[bytes]

    def handle(self) -> None:
        for line in self.rfile:
            self.asked.append(line)
            self.wfile.write(self.script.pop(0))


@pytest.fixture
def answers() -> Iterator[tuple[int, type[Answers]]]:
    handler = type("Scripted", (Answers,), {"script": [], "asked": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], handler
        server.shutdown()


def test_a_patient_sender_sends_again_what_was_refused(
    answers: tuple[int, type[Answers]],
) -> None:
    port, handler = answers
    handler.script[:] = [LATER, LATER, DONE, DONE]
    outcome = run(port, [b"one\n", b"two\n"], connections=1, patient=True)
    assert handler.asked == [b"one\n"] * 3 + [b"two\n"]
    assert (outcome.refused, outcome.bodies) == (2, [b"ok"] * 2)


@pytest.mark.parametrize(("answer", "patient"), [(LATER, False), (FOR_GOOD, True)])
def test_a_refusal_ends_whoever_is_not_told_when_to_come_or_does_not_wait(
    answers: tuple[int, type[Answers]], answer: bytes, patient: bool
) -> None:
    port, handler = answers
    handler.script[:] = [answer]
    with pytest.raises(LoadError, match="answer 503"):
        run(port, [b"one\n"], connections=1, patient=patient)
