"""Posts series as their sensors would, and adds up what the server says.

Invariants: a sensor's readings go out in time order, never two requests of one sensor at a time;
a request is repeated until it is answered, which is free because the server recognises what it
already has; every answer must account for every reading sent (stored + duplicate + conflict +
rejected). The sensor whose next reading is oldest goes first, so all advance together.

On failure: busy servers (429, 503) and lost connections are retried with growing pauses or as
long as Retry-After says; after `patience` seconds without an answer (10 where there never was
one), or on any other refusal, `replay` stops with a CommandError. What was acknowledged until
then is in the totals given to `on_progress`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from app.errors import CommandError
from app.replay.feed import Batch, Feed, feeds
from app.replay.pace import Pace, Unpaced
from app.replay.series import Series

BUSY = frozenset({408, 429, 502, 503, 504})
"""Answers that mean: nothing was decided, ask again."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
"""Seconds between attempts, doubled from the first to the longest."""
ANSWER_WITHIN = 60.0
"""Seconds after which a request without an answer is taken as lost."""
FIRST_CONTACT = 10.0
"""Seconds after which an address that never answered is given up."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts that a proxy from the environment is never asked for."""


class Totals(msgspec.Struct, kw_only=True):
    """What became of the readings; `stored` includes the late ones."""

    sent: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    late: int = 0
    rejected: int = 0
    requests: int = 0
    """Answered requests."""
    retries: int = 0
    seconds: float = 0.0
    refused_because: str = ""
    """The first reason given for a rejected or conflicting reading, when asked to explain."""


class Verdict(msgspec.Struct, frozen=True):
    """What the server says about one reading that was not simply stored."""

    index: int = -1
    verdict: str = ""
    field: str | None = None
    reason: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The reply to a batch; a 422 with these fields refused all of it."""

    sent: int
    stored: int
    duplicate: int
    conflict: int
    late: int
    rejected: int
    verdicts: list[Verdict] = []


OnProgress = Callable[[Totals, Batch], None]
OnSend = Callable[[Batch], None]


async def replay(
    series: Sequence[Series],
    *,
    url: str,
    key: str,
    pace: Pace | None = None,
    batch: int = 2_000,
    clients: int = 8,
    patience: float = 120.0,
    explain: bool = False,
    on_progress: OnProgress | None = None,
    on_send: OnSend | None = None,
) -> Totals:
    """Send everything; at most `batch` readings a request, `clients` requests at a time.

    `on_send` is called right before a batch goes out, `on_progress` when it was answered.
    """
    todo = feeds(series)
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Prefer": "return=minimal",
    }
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    try:
        base = httpx.URL(url)
        client = httpx.AsyncClient(
            base_url=base,
            headers=headers,
            limits=limits,
            timeout=ANSWER_WITHIN,
            trust_env=base.host not in LOOPBACK,
        )
    except httpx.InvalidURL as exc:
        raise CommandError(f"{url}: not an address: {exc}") from None
    async with client:
        run = Run(
            client=client,
            todo=todo,
            pace=pace or Unpaced(),
            batch=batch,
            patience=patience,
            explain=explain,
            on_progress=on_progress,
            on_send=on_send,
        )
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(clients, len(todo))):
                    group.create_task(run.work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
    return run.totals


class Run:
    """One replay in progress: the queue of idle sensors and the totals its workers share."""

    def __init__(
        self,
        *,
        client: httpx.AsyncClient,
        todo: list[Feed],
        pace: Pace,
        batch: int,
        patience: float,
        explain: bool,
        on_progress: OnProgress | None,
        on_send: OnSend | None,
    ) -> None:
        self.client = client
        self.todo = todo
        self.pace = pace
        self.batch = min(batch, pace.most)
        self.patience = patience
        self.explain = explain
        self.on_progress = on_progress
        self.on_send = on_send
        self.totals = Totals()
        self.started = time.monotonic()
        self.unfinished = len(todo)
        # (time of the next row, index of the feed); a feed in flight is not in the queue
        self.idle: asyncio.PriorityQueue[tuple[float, int]] = asyncio.PriorityQueue()
        for index, feed in enumerate(todo):
            self.idle.put_nowait((feed.next_ts, index))

    async def work(self) -> None:
        """Send for whichever sensor is furthest behind, until all are done."""
        while True:
            ts, index = await self.idle.get()
            if index < 0:  # all are done; tell the next worker
                self.idle.put_nowait((ts, index))
                return
            feed = self.todo[index]
            await self.turn(feed)
            part = feed.take(self.batch, self.pace.until())
            self.pace.sent(part.readings)
            await self.send(part)
            if len(feed):
                self.idle.put_nowait((feed.next_ts, index))
                continue
            self.unfinished -= 1
            if not self.unfinished:
                self.idle.put_nowait((float("inf"), -1))

    async def turn(self, feed: Feed) -> None:
        """Wait until the feed's next row may go; another worker may have used the time up."""
        while (pause := self.pace.wait_for(feed.next_ts)) > 0:  # noqa: ASYNC110 (a clock)
            await asyncio.sleep(pause)

    async def send(self, part: Batch) -> None:
        """Post one batch until it is answered, and count the answer."""
        if self.on_send:
            self.on_send(part)
        answer = await self.answer(part)
        refused = answer.conflict + answer.rejected
        if refused and self.explain and not self.totals.refused_because:
            self.totals.refused_because = await self.reason(part)
        totals = self.totals
        totals.sent += part.readings
        totals.stored += answer.stored
        totals.duplicate += answer.duplicate
        totals.conflict += answer.conflict
        totals.late += answer.late
        totals.rejected += answer.rejected
        totals.requests += 1
        totals.seconds = time.monotonic() - self.started
        if self.on_progress:
            self.on_progress(totals, part)

    async def answer(self, part: Batch, **headers: str) -> Answer:
        """The server's decision on a batch, however often it has to be asked."""
        asked_first = time.monotonic()
        attempt = 0
        while True:
            try:
                response = await self.client.post(
                    "/api/v1/readings",
                    params={"precision": part.precision},
                    content=part.body,
                    headers=headers,
                )
            except httpx.UnsupportedProtocol as exc:
                raise CommandError(f"{self.client.base_url}: {exc}") from None
            except httpx.TransportError as exc:
                trouble, asked = f"{type(exc).__name__} {exc}".strip(), 0.0
                patience = self.patience
                if not self.totals.requests:  # probably a wrong address, not an outage
                    patience = min(patience, FIRST_CONTACT)
            else:
                if response.status_code not in BUSY:
                    return read_answer(response, part)
                trouble, asked = explain_problem(response), retry_after(response)
                patience = self.patience
            pause = max(asked, backoff(attempt))
            if time.monotonic() + pause > asked_first + patience:
                raise CommandError(
                    f"{self.client.base_url} took no readings for {patience:g} s: {trouble}"
                )
            attempt += 1
            self.totals.retries += 1
            await asyncio.sleep(pause)

    async def reason(self, part: Batch) -> str:
        """Ask again, this time with verdicts: sending twice changes nothing."""
        answer = await self.answer(part, Prefer="return=representation")
        for verdict in answer.verdicts:
            if verdict.verdict in ("rejected", "conflict"):
                field = f"{verdict.field}: " if verdict.field else ""
                return f"{part.sensor}: {verdict.verdict}: {field}{verdict.reason}"
        return ""


def read_answer(response: httpx.Response, part: Batch) -> Answer:
    """The counters of a 200 or 422; CommandError for anything else or where they don't add up."""
    answer = None
    if response.status_code in (200, 422):
        try:
            answer = msgspec.json.decode(response.content, type=Answer)
        except msgspec.DecodeError:
            answer = None
    if answer is None:
        raise CommandError(
            f"{response.url}: {response.status_code}: {explain_problem(response)} ({part.sensor})"
        )
    told = answer.stored + answer.duplicate + answer.conflict + answer.rejected
    if not part.readings == answer.sent == told:
        raise CommandError(
            f"{response.url}: {part.readings} readings of {part.sensor} sent, but the answer"
            f" accounts for {told} of {answer.sent}"
        )
    return answer


def explain_problem(response: httpx.Response) -> str:
    """What a problem+json answer says, or the start of any other."""
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, object])
        return str(problem.get("detail") or problem["title"])
    except (msgspec.DecodeError, KeyError):
        return response.text[:200].strip() or response.reason_phrase


def retry_after(response: httpx.Response) -> float:
    """Seconds the server asks for, as a number or a date; 0 where it does not."""
    text = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: doubling, spread so that clients don't come in step."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
