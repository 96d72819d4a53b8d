"""Groups of shards that are on the way to another node, for whoever must know: they take no readings."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.db.queries import queries

SQL = queries("ops")
REMEDY = "run `headwater cluster rebalance`: it goes on where the move was cut off"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A move that is under way, or that was cut off."""

    shard_id: int
    """The group's number: that of its readings' shard."""
    source: str
    target: str
    state: str
    """How far it is: planned, fenced, copied, verified, switched or undoing."""
    is_running: bool
    """Whether a command is at it."""
    problem: str | None
    """Why it is being undone."""

    def __str__(self) -> str:
        return f"shards {self.shard_id} are on the way from {self.source} to {self.target}"


async def moves_unfinished(connection: AsyncConnection[Any]) -> list[Move]:
    """None on one server."""
    async with connection.cursor(row_factory=class_row(Move)) as cursor:
        await cursor.execute(SQL["moves_unfinished"])
        return await cursor.fetchall()


def cut_off(moves: Sequence[Move]) -> list[str]:
    """What is wrong with those that nobody is at."""
    return [
        f"{move}, cut off when {move.state}; until it ends their readings may be refused"
        for move in moves
        if not move.is_running
    ]
