"""A client's session: statements that reach archived readings are answered here, all others pass.

In the extended protocol statements and portals are what the server has taken, by its answers; a session
that prepared nothing of the kind is never made to wait for one.
"""

from collections.abc import Callable

import msgspec

from app.errors import Problem, QueryRefused
from app.relay import wire
from app.relay.feed import Feed
from app.relay.judge import Verdict
from app.relay.line import Heard, Line
from app.relay.parameter import constants
from app.relay.statement import Statement, looked_at
from app.relay.teller import OURS, Teller, complete, first, probe
from app.relay.wire import Bound, message

MOST_ROWS = 10_000
"""That are told at once."""


class Prepared(msgspec.Struct, kw_only=True):
    """A statement of the client that must be looked at."""

    statement: Statement
    oids: list[int] | None = None
    """Types of its parameters; None: not asked yet."""


class Portal(msgspec.Struct, kw_only=True):
    """Such a statement with its parameters."""

    bound: Bound
    prepared: Prepared
    feed: Feed | None = None
    write: Callable[..., bytes] | None = None
    is_hot: bool = False


class Session:
    """Reads what the client sends, message by message."""

    def __init__(self, line: Line, teller: Teller) -> None:
        self._line = line
        self._teller = teller
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Portal] = {}
        self._is_expecting = False

    async def run(self) -> None:
        """Until the client ends. Raises TooLong, Malformed."""
        special = {
            wire.QUERY: self._query,
            wire.PARSE: self._parse,
            wire.BIND: self._bind,
            wire.EXECUTE: self._execute,
            wire.CLOSE: self._close,
        }
        while (found := await self._line.next()) is not None:
            kind, body = found
            if kind == wire.TERMINATE:
                return
            act = special.get(kind)
            if act is not None and not self._line.is_skipping:
                await act(body)
            else:
                await self._line.send(kind, body, done=self._over if kind == wire.SYNC else None)

    # simple protocol

    async def _query(self, body: bytes) -> None:
        (raw,), _ = wire.texts(body, 1)
        statement = looked_at(raw)
        if statement is None:
            await self._line.send(wire.QUERY, body, done=self._over)
            return
        await self._line.settled()
        verdict = await self._teller.judged(statement)
        if verdict.is_hot or self._line.status == wire.FAILED:
            await self._line.send(wire.QUERY, body, done=self._over, within=verdict.within)
            return
        if statement.is_several and verdict.problem is not None:
            await self._refuse(verdict.problem)
            return
        heard = await self._line.ask(
            (wire.CLOSE, b"S" + OURS + b"\0"),  # one that failed left it behind
            (wire.PARSE, wire.parse(OURS, raw)),
            (wire.BIND, wire.bind(OURS)),
            (wire.DESCRIBE, b"P" + OURS + b"\0"),
            (wire.CLOSE, b"P" + OURS + b"\0"),
            *probe(),
            sync=True,
        )
        if first(heard, wire.ERROR) is None:
            await self._answer(verdict, heard)
        else:
            await self._line.tell(message(wire.ERROR, first(heard, wire.ERROR) or b""))
        await self._line.tell(message(wire.READY, self._line.status))

    async def _refuse(self, problem: Problem) -> None:
        await self._teller.fail(problem, sync=True)
        await self._line.tell(message(wire.READY, self._line.status))

    async def _answer(self, verdict: Verdict, heard: Heard) -> None:
        try:
            feed, write = self._teller.begin(verdict, heard)
        except Problem as exc:
            await self._teller.fail(exc, sync=True)
            return
        described = first(heard, wire.ROW_DESCRIPTION)
        assert described is not None
        is_told = False
        try:
            while rows := await feed.take(MOST_ROWS):
                begin = b"" if is_told else message(wire.ROW_DESCRIPTION, described)
                is_told = True
                await self._line.tell(begin + write(rows))
            if not is_told:
                await self._line.tell(message(wire.ROW_DESCRIPTION, described))
            await self._line.tell(complete(feed))
        except Problem as exc:
            await self._teller.fail(exc, sync=True)
        finally:
            await self._teller.end(feed)

    # extended protocol: what the server has taken is what counts

    async def _parse(self, body: bytes) -> None:
        (name, raw), _ = wire.texts(body, 2)
        statement = looked_at(raw)

        def done() -> None:
            self._statements.pop(name, None)
            if statement is not None:
                self._statements[name] = Prepared(statement=statement)

        self._is_expecting = self._is_expecting or statement is not None
        await self._line.send(wire.PARSE, body, done=done)

    async def _bind(self, body: bytes) -> None:
        bound = wire.read_bind(body)

        def done() -> None:
            self._forget(bound.portal)
            prepared = self._statements.get(bound.statement)
            if prepared is not None:
                self._portals[bound.portal] = Portal(bound=bound, prepared=prepared)

        await self._line.send(wire.BIND, body, done=done)

    async def _close(self, body: bytes) -> None:
        kind, name = body[:1], body[1:].rstrip(b"\0")

        def done() -> None:
            if kind == b"S":
                self._statements.pop(name, None)
            else:
                self._forget(name)

        await self._line.send(wire.CLOSE, body, done=done)

    async def _execute(self, body: bytes) -> None:
        name, most = wire.read_execute(body)
        within = None
        if self._is_expecting:
            await self._line.settled()
            self._is_expecting = bool(self._statements or self._portals)
            portal = self._portals.get(name)
            if portal is not None and not portal.is_hot and not self._line.is_skipping:
                if portal.feed is None:
                    verdict = await self._opened(portal)
                    if verdict is None:
                        return
                    within = verdict.within
                if portal.feed is not None:
                    await self._pour(portal, most)
                    return
        await self._line.send(wire.EXECUTE, body, within=within)

    async def _opened(self, portal: Portal) -> Verdict | None:
        """Its verdict, with a feed where it is cold; None: it failed, and the client knows."""
        prepared = portal.prepared
        try:
            values = []
            if portal.bound.values:
                if prepared.oids is None:
                    await self._ask_types(portal)
                assert prepared.oids is not None
                values = constants(portal.bound.values, prepared.oids)
            verdict = await self._teller.judged(prepared.statement, values)
            if verdict.is_hot:
                portal.is_hot = True
                return verdict
            describe = (wire.DESCRIBE, b"P" + portal.bound.portal + b"\0")
            heard = await self._line.ask(describe, *probe(), sync=False)
            error = first(heard, wire.ERROR)
            if error is not None:
                await self._line.tell(message(wire.ERROR, error))
                return None
            portal.feed, portal.write = self._teller.begin(verdict, heard)
        except Problem as exc:
            await self._teller.fail(exc, sync=False)
            return None
        return verdict

    async def _ask_types(self, portal: Portal) -> None:
        name = portal.bound.statement
        if self._statements.get(name) is not portal.prepared:
            raise QueryRefused(
                "sql: the portal's statement is closed; keep it until its rows are read."
            )
        heard = await self._line.ask((wire.DESCRIBE, b"S" + name + b"\0"), sync=False)
        found = first(heard, wire.PARAMETERS)
        if found is None:
            raise QueryRefused("sql: the types of the parameters are not known.")
        portal.prepared.oids = wire.read_parameters(found)

    async def _pour(self, portal: Portal, most: int) -> None:
        """Rows of a portal, as many as are wanted now."""
        feed, write = portal.feed, portal.write
        assert feed is not None
        assert write is not None
        wanted = most
        before = feed.count
        try:
            while rows := await feed.take(min(wanted or MOST_ROWS, MOST_ROWS)):
                await self._line.tell(write(rows))
                if most:
                    wanted -= len(rows)
                    if not wanted:
                        await self._line.tell(message(wire.SUSPENDED))
                        return
            await self._line.tell(complete(feed, feed.count - before))
        except Problem as exc:
            await self._teller.fail(exc, sync=False)
        # a portal that was read to its end stays, and has no more rows
        await self._teller.end(feed)

    def _forget(self, name: bytes) -> None:
        portal = self._portals.pop(name, None)
        if portal is not None and portal.feed is not None:
            self._teller.abandon(portal.feed)

    def _over(self) -> None:
        """The transaction may be: with it go its portals."""
        if self._line.status == wire.IDLE:
            for name in list(self._portals):
                self._forget(name)
