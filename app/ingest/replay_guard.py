"""Idempotency-Key: the same request sent again gets the same answer again.

Readings have a natural key, so a retry is harmless without it; the header only spares the sender the
difference between "stored" and "duplicate". That is why the answer is kept after the commit, not in it.
"""

import hashlib

import msgspec
from psycopg.rows import class_row

from app.db.pool import Pool
from app.db.queries import queries
from app.errors import BadRequest, IdempotencyMismatch

SQL = queries("ingest")


class Kept(msgspec.Struct, frozen=True):
    """A row of reply_get."""

    body_sha256: bytes
    status: int
    reply: bytes


class ReplayGuard:
    """One request's key; `recall` before the work, `keep` after it.

    `request` is what must be the same when the key comes again: the body and what changes its meaning.
    """

    def __init__(self, pool: Pool, api_key_id: int, key: str, *request: bytes) -> None:
        if not 1 <= len(key) <= 255 or not key.isprintable():
            raise BadRequest("Idempotency-Key: must be 1 to 255 printable characters.")
        self._pool = pool
        self._names = {"api_key_id": api_key_id, "idempotency_key": key}
        sha256 = hashlib.sha256()
        for part in request:
            sha256.update(part)
        self._sha256 = sha256.digest()

    async def recall(self) -> Kept | None:
        """The answer already given. Raises IdempotencyMismatch where it was to another body."""
        async with (
            self._pool.connection() as connection,
            connection.cursor(row_factory=class_row(Kept)) as cursor,
        ):
            await cursor.execute(SQL["reply_get"], self._names)
            kept = await cursor.fetchone()
        if kept is not None and kept.body_sha256 != self._sha256:
            raise IdempotencyMismatch(
                "Idempotency-Key: was used with another body; send a new key with a new batch."
            )
        return kept

    async def keep(self, status: int, reply: bytes) -> None:
        """Remember the answer."""
        row = self._names | {"body_sha256": self._sha256, "status": status, "reply": reply}
        async with self._pool.connection() as connection:
            await connection.execute(SQL["reply_put"], row)
