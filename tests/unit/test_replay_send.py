"""The client's side of a replay, against a small server that keeps what it is sent.

The real server's part is in tests/integration; here are order, retries and what ends a replay.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from app.errors import CommandError
from app.replay import cli
from app.replay.feed import Batch
from app.replay.pace import Recorded, Steady
from app.replay.send import Totals, backoff, replay
from app.replay.series import SECOND, Series

Reply = tuple[int, dict[str, str], Any]


class Stub:
    """An HTTP server that stores readings by key and can be told to misbehave."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, int, str], float] = {}
        self.arrivals: dict[str, list[int]] = {}
        self.headers: list[dict[str, str]] = []
        self.open: dict[str, int] = {}
        self.overlap = False
        self.delay = 0.0
        self.trouble: Callable[[int, bytes], Reply | None] = lambda number, body: None
        self.requests = 0
        self.url = ""

    async def __aenter__(self) -> "Stub":
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.server.close()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client, or the trouble, closes the connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests += 1
                self.headers.append(headers)
                reply = self.trouble(self.requests, body) or await self.store(body)
                if not reply[0]:
                    return
                text = msgspec.json.encode(reply[2])
                more = "".join(f"{name}: {value}\r\n" for name, value in reply[1].items())
                writer.write(
                    f"HTTP/1.1 {reply[0]} X\r\ncontent-length: {len(text)}\r\n{more}\r\n".encode()
                    + text
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def store(self, body: bytes) -> Reply:
        """Count new, equal and other values, as the contract says."""
        entry = msgspec.json.decode(body)
        sensor = entry["sensor"]
        self.overlap |= self.open.get(sensor, 0) > 0
        self.open[sensor] = 1
        await asyncio.sleep(self.delay)
        self.open[sensor] = 0
        told = dict.fromkeys(["sent", "stored", "duplicate", "conflict", "late", "rejected"], 0)
        for metric, values in entry["metrics"].items():
            for ts, value in zip(entry["ts"], values, strict=True):
                if value is None:
                    continue
                before = self.stored.setdefault((sensor, ts, metric), value)
                fresh = ts not in self.arrivals.get(sensor, []) and before == value
                told["sent"] += 1
                told["stored" if fresh else "duplicate" if before == value else "conflict"] += 1
        self.arrivals.setdefault(sensor, []).extend(entry["ts"])
        return 200, {}, told


def make_series(sensor: str, readings: int, step: float = 1.0) -> Series:
    """One sensor's ph, one reading every `step` seconds."""
    return Series(
        sensor=sensor, metric="ph", unit="",
        ts=(np.arange(readings) * step * SECOND).astype(np.int64),
        values=np.arange(readings, dtype=np.float64),
    )  # fmt: skip


def refuse(status: int, times: int, headers: dict[str, str] | None = None) -> Any:
    """Trouble: the first requests get this status; 0 closes the connection."""
    problem = {"type": "/problems/x", "title": "No", "detail": "not now"}
    return lambda number, body: (status, headers or {}, problem) if number <= times else None


async def test_each_sensors_readings_arrive_in_order_one_request_at_a_time() -> None:
    series = [make_series(f"s{number}", 100) for number in range(5)]
    async with Stub() as stub:
        stub.delay = 0.002
        totals = await replay(series, url=stub.url, key="hw_x", batch=7, clients=4)
    assert (totals.sent, totals.stored, totals.requests) == (500, 500, 75)
    assert all(stub.arrivals[f"s{number}"] == list(range(100)) for number in range(5))
    assert not stub.overlap
    assert stub.headers[0]["authorization"] == "bearer hw_x"
    assert stub.headers[0]["prefer"] == "return=minimal"


async def test_sensors_advance_together() -> None:
    sent: list[Batch] = []
    series = [make_series("a", 50), make_series("b", 50)]
    async with Stub() as stub:
        await replay(
            series, url=stub.url, key="k", batch=5, clients=1,
            on_progress=lambda totals, batch: sent.append(batch),
        )  # fmt: skip
    assert [batch.first for batch in sent] == sorted(batch.first for batch in sent)


@pytest.mark.parametrize("status", [0, 429, 503])
async def test_lost_connections_and_busy_answers_are_retried(status: int) -> None:
    async with Stub() as stub:
        stub.trouble = refuse(status, 2)
        totals = await replay([make_series("a", 10)], url=stub.url, key="k", batch=5)
    assert (totals.stored, totals.requests, totals.retries) == (10, 2, 2)


async def test_an_answer_lost_after_the_commit_comes_back_as_duplicates() -> None:
    async with Stub() as stub:
        lost: list[bytes] = []

        def trouble(number: int, body: bytes) -> Reply | None:
            if lost:
                return None
            lost.append(body)
            entry = msgspec.json.decode(body)
            stub.arrivals["a"] = entry["ts"]
            for ts, value in zip(entry["ts"], entry["metrics"]["ph"], strict=True):
                stub.stored["a", ts, "ph"] = value
            return 0, {}, None

        stub.trouble = trouble
        totals = await replay([make_series("a", 10)], url=stub.url, key="k", batch=5)
    assert (totals.sent, totals.stored, totals.duplicate) == (10, 5, 5)


async def test_retry_after_is_obeyed() -> None:
    async with Stub() as stub:
        stub.trouble = refuse(429, 1, {"Retry-After": "0.5"})
        started = time.monotonic()
        await replay([make_series("a", 1)], url=stub.url, key="k")
    assert time.monotonic() - started >= 0.5


async def test_it_gives_up_when_nothing_answers_for_too_long() -> None:
    async with Stub() as stub:
        stub.trouble = refuse(503, 1_000)
        with pytest.raises(CommandError, match=r"took no readings for 0\.3 s: not now"):
            await replay([make_series("a", 1)], url=stub.url, key="k", patience=0.3)
    with pytest.raises(CommandError, match="ConnectError"):
        await replay([make_series("a", 1)], url=stub.url, key="k", patience=0.1)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422, 500])
async def test_a_refusal_ends_the_replay_with_its_reason(status: int) -> None:
    async with Stub() as stub:
        stub.trouble = refuse(status, 1_000)
        with pytest.raises(CommandError, match=f"{status}: not now"):
            await replay([make_series("a", 10), make_series("b", 10)], url=stub.url, key="k")


async def test_an_answer_that_does_not_account_for_every_reading_ends_the_replay() -> None:
    told = {"sent": 10, "stored": 9, "duplicate": 0, "conflict": 0, "late": 0, "rejected": 0}
    async with Stub() as stub:
        stub.trouble = lambda number, body: (200, {}, told)
        with pytest.raises(CommandError, match=r"10 readings of a sent, .* accounts for 9 of 10"):
            await replay([make_series("a", 10)], url=stub.url, key="k")


async def test_a_wholly_rejected_batch_is_counted_and_explained_once() -> None:
    told = {"sent": 5, "stored": 0, "duplicate": 0, "conflict": 0, "late": 0, "rejected": 5}
    verdict = {"index": 0, "verdict": "rejected", "field": "sensor", "reason": "unknown"}
    async with Stub() as stub:
        stub.trouble = lambda number, body: (422, {}, told | {"verdicts": [verdict]})
        totals = await replay([make_series("a", 10)], url=stub.url, key="k", batch=5, explain=True)
    assert (totals.sent, totals.rejected, stub.requests) == (10, 10, 3)
    assert totals.refused_because == "a: rejected: sensor: unknown"
    assert stub.headers[1]["prefer"] == "return=representation"


@pytest.mark.parametrize("url", ["http://[", "nothing", "ftp://127.0.0.1"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CommandError):
        await replay([make_series("a", 1)], url=url, key="k", patience=0.1)


async def test_a_steady_rate_holds_over_all_sensors() -> None:
    async with Stub() as stub:
        series = [make_series("a", 40), make_series("b", 40)]
        totals = await replay(series, url=stub.url, key="k", batch=10, pace=Steady(100))
    assert totals.seconds > 0.65  # each at this rate would take half as long


async def test_the_recorded_spacing_is_kept_times_the_speed_up() -> None:
    moments: list[tuple[float, Batch]] = []
    async with Stub() as stub:
        started = time.monotonic()
        await replay(
            [make_series("a", 6, step=10)], url=stub.url, key="k", pace=Recorded(0, 100),
            on_progress=lambda totals, batch: moments.append((time.monotonic() - started, batch)),
        )  # fmt: skip
    assert len(moments) == 6
    assert all(
        0 <= moment - batch.first / SECOND / 100 < 5  # never early, and on a busy machine late
        for moment, batch in moments
    )  # fmt: skip


def test_pauses_grow_and_are_bounded() -> None:
    assert 0.05 <= backoff(0) <= 0.1
    assert 5 <= backoff(10_000) <= 10


def make_file(folder: Path) -> str:
    """A station of three readings."""
    path = folder / "abc.csv"
    path.write_text(
        "datetime_utc,temp\n2012-01-01 00:00:00,1\n2012-01-02 00:00:00,2\n2012-01-03 00:00:00,3\n"
    )
    return str(path)


def test_a_dry_run_lists_the_series_and_needs_no_key(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli.replay, [make_file(tmp_path), "--dry-run", "--days", "2", "--sensors", "3"]
    )
    assert result.exit_code == 0
    assert "nerrs-abc-3" in result.output
    assert "6 readings of 3 sensors; nothing was sent" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "fast"], "--rate fast"),
        (["--rate", "-1"], "--rate -1"),
        (["--rate", "nan"], "--rate nan"),
        (["--rate", "5", "--speedup", "2"], "--speedup goes with"),
        (["--from", "2013-01-01"], "no readings"),
        (["--key", "  "], "no API key"),
        (["--key", "hw_ü"], "characters"),
    ],
)
def test_wrong_options_end_in_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.replay, [make_file(tmp_path), *options])
    assert isinstance(result.exception, CommandError)
    assert message in str(result.exception)


def test_the_command_sends_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fake(series: list[Series], **options: Any) -> Totals:
        assert (options["url"], options["key"]) == ("http://x", "hw_x")
        totals = Totals(sent=3, stored=3, late=3, requests=1, seconds=0.5)
        batch = Batch(sensor="s", first=0, last=0, readings=3, body=b"", precision="s")
        options["on_progress"](totals, batch)
        return totals

    command: Awaitable[Totals] | Any = fake
    monkeypatch.setattr("app.replay.send.replay", command)
    options = ["--url", "http://x", "--key", "hw_x", "--shift-to-now"]
    result = CliRunner().invoke(cli.replay, [make_file(tmp_path), *options])
    assert result.exit_code == 0
    assert "stored 3 (late 3), duplicate 0, conflict 0, rejected 0" in result.output
