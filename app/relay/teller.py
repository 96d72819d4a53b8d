"""Answers statements that reach archived readings, between what passes on a session's line.

What is answered here was first given to the server, in the client's own session, up to the point of
running it: names, types and rights are the server's, and its errors too. An error of the relay's own
becomes one of the session as well, so that a transaction ends as it would have.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from sqlglot import exp

from app.db.queries import queries
from app.errors import Problem, QueryRefused, QueryTooCostly, Unavailable
from app.query.run import Question
from app.query.sources import READING
from app.query.words import SCHEMAS
from app.relay import wire
from app.relay.door import LOGIN
from app.relay.feed import Feed
from app.relay.judge import Judge, Verdict
from app.relay.line import Heard, Line
from app.relay.row import rows_of
from app.relay.statement import Statement
from app.relay.wire import failure, message

STATES: dict[type[Problem], str] = {
    QueryRefused: "0A000",
    QueryTooCostly: "54000",
    Unavailable: "58000",
}
"""SQLSTATE of a problem that has none of the server's."""
OURS, PROBING = b"headwater_relay", b"headwater_relay_probe"
"""Names of the relay's own statements and portals in the client's session."""
PROBE = queries("relay")["session_now"].encode()


class Teller:
    """Of one session: feeds of rows, whether they may be told, and how it is said that they may not."""

    def __init__(
        self,
        line: Line,
        login: str,
        judge: Judge,
        stream: Callable[[Question, Feed], Coroutine[Any, Any, None]],
    ) -> None:
        self._line = line
        self._login = login
        self._judge = judge
        self._stream = stream
        self._feeds: set[Feed] = set()

    @property
    def is_answering(self) -> bool:
        """Whether rows are on their way that the server knows nothing of."""
        return bool(self._feeds)

    def cancel(self) -> None:
        """As the client wishes."""
        for feed in self._feeds:
            feed.cancel(QueryRefused("canceling statement due to user request", sqlstate="57014"))

    async def close(self) -> None:
        """Let go of everything."""
        for feed in list(self._feeds):
            await self.end(feed)

    async def judged(self, statement: Statement, values: list[exp.Expr] | None = None) -> Verdict:
        return await self._judge.verdict(statement, self._login, self._line.reported, values)

    def begin(self, verdict: Verdict, heard: Heard) -> tuple[Feed, Callable[..., bytes]]:
        """Let the archive answer. Raises Problem."""
        described = first(heard, wire.ROW_DESCRIPTION)
        probed = first(heard, wire.DATA_ROW)
        if verdict.problem is not None:
            raise verdict.problem
        if verdict.question is None or described is None or probed is None:
            raise QueryRefused("sql: only SELECT is taken, of the views of the contract.")
        isolation, schema = wire.read_row(probed)
        if self._line.reported.get(LOGIN) != self._login:
            raise QueryRefused(f"sql: {LOGIN} was set; archived readings are told to a login only.")
        if isolation != "read committed":
            raise QueryRefused(
                f"sql: archived readings have no snapshot, as {isolation} promises; use read committed."
            )
        if schema is not None and schema not in SCHEMAS:
            raise QueryRefused(f"sql: {READING} is {schema}.{READING} here; reset search_path.")
        write = rows_of(wire.read_fields(described))
        feed = Feed()
        self._feeds.add(feed)
        feed.start(self._stream(verdict.question, feed))
        return feed, write

    async def fail(self, problem: Problem, *, sync: bool) -> None:
        """Tell the client, and let the server's session fail as well."""
        if not self._line.is_skipping and (not sync or self._line.status == wire.IN_BLOCK):
            text = b"refused by headwater relay"
            await self._line.ask((wire.PARSE, wire.parse(OURS, text)), sync=sync)
        state = str(problem.extra.get("sqlstate") or STATES.get(type(problem), "XX000"))
        await self._line.tell(failure(problem.detail, state))

    async def end(self, feed: Feed) -> None:
        """It was read, or will not be."""
        self._feeds.discard(feed)
        await feed.stop()

    def abandon(self, feed: Feed) -> None:
        """Nobody takes from it any more; it ends soon."""
        self._feeds.discard(feed)
        feed.abandon()


def probe() -> list[tuple[int, bytes]]:
    """What the session is like."""
    return [
        (wire.CLOSE, b"S" + PROBING + b"\0"),
        (wire.PARSE, wire.parse(PROBING, PROBE)),
        (wire.BIND, wire.bind(PROBING)),
        (wire.EXECUTE, wire.execute(PROBING)),
        (wire.CLOSE, b"P" + PROBING + b"\0"),
    ]


def first(heard: Heard, kind: int) -> bytes | None:
    """The first message of a kind."""
    return next((body for one, body in heard if one == kind), None)


def complete(feed: Feed, count: int | None = None) -> bytes:
    """That was all."""
    number = feed.count if count is None else count
    return message(wire.COMPLETE, f"SELECT {number}".encode() + b"\0")
