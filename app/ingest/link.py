"""One writer connection and the transaction it makes of a batch.

In one message: readings, then the candidates as far as the connection knows from what it remembers about
rules and alerts, then one statement that logs the batch and says whether that still holds. Where it
does not, the candidates that are missing follow. Nothing counts before COMMIT.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection, Error, errors
from psycopg.pq.abc import PGresult

from app.db.array import literal
from app.db.copying import commit, rows_of, send
from app.db.pool import Connection, connect
from app.ingest.band import BandKeeper, Change, Watch
from app.ingest.batch import Batch
from app.ingest.known import STAGED_TABLE, Codes, known, stretches
from app.ingest.shard import Target
from app.ingest.verdict import Code

LIMITS = {"lock_timeout": "10s", "statement_timeout": "20s"}
PATIENCE_SECONDS = 25.0
FEW = 200
"""Candidates that are handed in as the values of a statement."""
ATTEMPTS = 5
"""How often a batch is tried that others write, too."""

Part = tuple[Target, NDArray[np.intp] | slice, Batch]
"""What goes to one target, and its positions in the whole batch."""
Targets = Mapping[int, Target]
"""Where readings go, by the batch's groups; a batch without groups goes to the only one."""


class Curious(Protocol):
    """Who wants to know at once what came of candidates."""

    def question(self) -> str | None:
        """A statement to go with the commit; None: nothing."""

    def answer(self, connection: AsyncConnection, result: PGresult | None) -> None:
        """What it said; None: it failed, the commit did not."""


class Link:
    """A connection and what it remembers."""

    def __init__(
        self, connection: Connection, bands: BandKeeper, curious: Curious | None = None
    ) -> None:
        self.connection = connection
        self._bands = bands
        self._curious = curious
        self._has_candidates = False
        """Whether the transaction has handed some in."""
        self._watches: dict[Target, Watch] = {}
        self._prepared: dict[tuple[Target, str], str] = {}
        """What targets' statements are called here."""

    @classmethod
    async def open(cls, url: str, bands: BandKeeper, curious: Curious | None = None) -> "Link":
        """Connect. Raises psycopg.Error."""
        connection = await connect(
            url, application="headwater-writer", settings=LIMITS, patience=PATIENCE_SECONDS
        )
        try:
            if not connection.is_pooled:
                await connection.execute(STAGED_TABLE)
        except BaseException:
            await connection.close()
            raise
        return cls(connection, bands, curious)

    async def store_new(self, targets: Targets, batch: Batch) -> Codes | None:
        """Store a batch that is probably all new; None, and nothing is stored, where it is not."""
        try:
            async with self._transaction():
                await self._write(self.connection.opening, list(_parts(targets, batch)))
        except (errors.UniqueViolation, errors.DeadlockDetected):
            return None
        return np.zeros(len(batch), dtype=np.uint8)

    async def store_colliding(self, targets: Targets, batch: Batch) -> Codes:
        """Store a batch of which something is stored already: look which, store the rest.

        Whoever stores the same reading at the same time wins, and is seen at the next attempt.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await self._store_fresh(targets, batch)
            except (errors.UniqueViolation, errors.DeadlockDetected):
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _store_fresh(self, targets: Targets, batch: Batch) -> Codes:
        codes = np.zeros(len(batch), dtype=np.uint8)
        async with self._transaction():
            await send(self.connection, self.connection.opening)
            parts: list[Part] = []
            for target, where, part in _parts(targets, batch):
                found = await known(self.connection, target, part)
                codes[where] = found
                is_new = found == Code.STORED
                if is_new.any():
                    parts.append((target, where, part if is_new.all() else part.where(is_new)))
            if parts:
                await self._write("", parts)
        return codes

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        """Commit what a statement in it has begun; undo it, and what was learned in it, if it fails."""
        self._has_candidates = False
        try:
            yield
            question = self._curious.question() if self._curious and self._has_candidates else None
            if self._curious is None or question is None:
                await self.connection.commit()
            else:
                self._curious.answer(self.connection, await commit(self.connection, question))
        except BaseException:
            for watch in self._watches.values():
                watch.forget()
            if not self.connection.closed:
                with suppress(Error):
                    await self.connection.rollback()
            raise

    async def _write(self, opening: str, parts: list[Part]) -> None:
        """Readings, candidates, log; in the order of the targets, so that nobody deadlocks."""
        judged = [
            Judged(target, self._watches.setdefault(target, Watch()), part)
            for target, _, part in parts
        ]
        statements = [opening] if opening else []
        data = []
        for one in judged:
            statements.append(one.target.copy_reading)
            data.append(one.batch.copy_readings())
        # what is remembered may be old, so the log's answer, the last, comes after it
        await self._hand_in(judged, statements, data)
        statements += [await self._log_and_look(one) for one in judged]
        results = await send(self.connection, "; ".join(statements), data)
        for one, answer in zip(judged, results[-len(judged) :], strict=True):
            if answer.ntuples:
                one.learn(rows_of(self.connection, answer))
            if one.watch.bands is None:
                cursor = await self.connection.execute(one.target.sql["bands"])
                one.watch.bands = self._bands.take(await cursor.fetchall())
            one.is_certain = True
        statements, data = [], []
        await self._hand_in(judged, statements, data)
        if statements:
            await send(self.connection, "; ".join(statements), data)

    async def _hand_in(
        self, judged: list["Judged"], statements: list[str], data: list[memoryview]
    ) -> None:
        """What a rule could care about and is not handed in yet."""
        for one in judged:
            candidates = one.candidates()
            if candidates is not None:
                self._has_candidates = True
                if len(candidates) > FEW or one.target.rings:
                    statements.append(one.target.copy_candidate)
                    data.append(candidates.copy_candidates())
                else:  # a COPY is one more answer to wait for
                    statements.append(await self._insert(one.target, candidates))
                if one.target.rings:
                    statements.append(one.target.sql["ring"])

    async def _log_and_look(self, one: "Judged") -> str:
        """The statement that logs what is stored and says what has changed since it was last asked."""
        batch, target = one.batch, one.target
        first, last, count = stretches(batch.ts)
        # one row for a shard; where they are not known apart, one for a sensor
        sensor_ids = np.unique(batch.sensor_id) if target.rings else batch.sensor_id[:1]
        values = {
            "sensor_ids": literal(sensor_ids),
            "first_us": literal(first),
            "last_us": literal(last),
            "reading_count": literal(count),
            "versions": literal(one.watch.versions),
        }
        return await self._said(target, "log_and_watch", values)

    async def _insert(self, target: Target, candidates: Batch) -> str:
        """The statement that hands in a few."""
        values = {
            "sensor_ids": literal(candidates.sensor_id),
            "us": literal(candidates.ts),
            "values": literal(candidates.value),
            "metric_ids": literal(candidates.metric_id),
        }
        return await self._said(target, "candidates_put", values)

    async def _said(self, target: Target, name: str, values: Mapping[str, str]) -> str:
        """One of our statements with its values; planned once, since to plan costs more than to run."""
        text = target.sql[name]
        if target.rings or self.connection.is_pooled:
            return text % values
        prepared = self._prepared.get((target, name))
        if prepared is None:
            prepared = f"{name}_{len(self._prepared)}"
            numbers = {key: f"${number}" for number, key in enumerate(values, start=1)}
            await self.connection.execute(f"prepare {prepared} as {text % numbers}")
            self._prepared[target, name] = prepared
        return f"execute {prepared} ({', '.join(values.values())})"


class Judged:
    """The readings of one target on their way past the rules."""

    def __init__(self, target: Target, watch: Watch, batch: Batch) -> None:
        self.target = target
        self.watch = watch
        self.batch = batch
        self.is_certain = False
        """Whether `watch` is known to be up to date."""
        self._is_looked_at = False
        """Whether all is handed in that `watch`, as it is now, has reason to."""
        self._handed: NDArray[np.bool_] | None = None

    def learn(self, changes: list[Change]) -> None:
        """What the database says has changed."""
        self.watch.learn(changes)
        self._is_looked_at = False

    def candidates(self) -> Batch | None:
        """The next ones; None: there are none."""
        batch = self.batch
        if self._is_looked_at or not (self.is_certain or self.watch.trusts(batch.bands)):
            return None
        self._is_looked_at = True
        if self._handed is not None and self.watch.trusts(batch.bands):
            wanted = self.watch.watched(batch.sensor_id, batch.metric_id)  # limits are as they were
        else:
            wanted = self.watch.candidates(
                batch.bands, batch.band, batch.sensor_id, batch.metric_id, batch.value
            )
        if self._handed is not None:
            wanted &= ~self._handed
        self._handed = wanted
        return batch.where(wanted) if wanted.any() else None


def _parts(targets: Targets, batch: Batch) -> Iterator[Part]:
    """The batch target by target."""
    if batch.group is None or (batch.group == batch.group[0]).all():
        number = 0 if batch.group is None else int(batch.group[0])
        yield _target(targets, number), slice(None), batch
        return
    for number in np.unique(batch.group).tolist():
        where = np.flatnonzero(batch.group == number)
        yield _target(targets, number), where, batch.where(where)


def _target(targets: Targets, number: int) -> Target:
    try:
        return targets[number]
    except KeyError:
        raise errors.UndefinedTable(f"shards {number} are not on this node") from None
