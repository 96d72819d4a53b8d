"""API keys: hw_<prefix>_<secret>, shown once, kept as a SHA-256 digest.

The ring keeps who a key belongs to for a short while, so that a request costs no query; a change of
any key or tenant clears it at once (channel `catalogue_changed`), the age limit covers a missed bell.
Keys that nobody has are remembered for a moment, too: a wrong key must not cost a query each time.
While the database can't be asked, nobody can revoke a key either: who was known stays known for a while.
"""

import hashlib
import secrets
import time
from datetime import datetime
from functools import partial

import msgspec
from psycopg import AsyncConnection, OperationalError
from psycopg.rows import class_row, dict_row
from psycopg_pool import PoolTimeout

from app.db.pool import Pool
from app.db.queries import queries
from app.db.together import Together
from app.errors import CommandError, Forbidden, Unauthorized
from app.identity.permission import Permission, Principal

SQL = queries("identity")

GRACE_SECONDS = 900.0
"""How old what is known of a key may be while the database can't be asked."""
ASK_AGAIN_SECONDS = 5.0
"""How long it is not asked then."""


def new_key() -> tuple[str, str, bytes]:
    """A fresh key: the whole text, its public prefix, its digest."""
    prefix = secrets.token_hex(4)
    text = f"hw_{prefix}_{secrets.token_urlsafe(32)}"
    return text, prefix, digest(text)


def digest(key: str) -> bytes:
    """What the database keeps. 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    connection: AsyncConnection,
    *,
    tenant_id: int | None,
    role: str,
    title: str,
    sensor_uids: list[str] | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Store a new key and return its text, which can't be had again.

    Raises CommandError where a sensor of the scope does not exist.
    """
    text, prefix, sha256 = new_key()
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            SQL["api_key_insert"],
            {
                "tenant_id": tenant_id,
                "role": role,
                "title": title,
                "prefix": prefix,
                "secret_sha256": sha256,
                "is_sensor_scoped": sensor_uids is not None,
                "expires_at": expires_at,
            },
        )
        row = await cursor.fetchone()
        assert row is not None
        if sensor_uids is not None:
            await cursor.execute(
                SQL["api_key_scope"],
                {
                    "api_key_id": row["api_key_id"],
                    "tenant_id": tenant_id,
                    "uids": sensor_uids,
                },
            )
            if cursor.rowcount != len(set(sensor_uids)):
                raise CommandError(
                    "--sensor: not all of these sensors exist in the tenant; create them first "
                    "(headwater sensor create) or create the key without --sensor"
                )
    return text


Known = dict[bytes, tuple[float, Principal | None]]
"""Digest of a key -> when it was asked for, whose it is; None: nobody's."""


class KeyRing:
    """Who is behind a key, remembered for at most `max_age` seconds."""

    def __init__(self, pool: Pool, *, max_age: float = 60.0, size: int = 50_000):
        self._pool = pool
        self._max_age = max_age
        self._size = size
        self._away_until = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget everybody: a key or tenant has changed."""
        # a new one: what is being read at this moment is old already and ends up in the old one
        self._known: Known = {}
        self._asked = Together(partial(self._find, self._known))

    async def principal(self, key: str) -> Principal:
        """The caller behind a key. Raises Unauthorized."""
        sha256 = digest(key)
        hit = self._known.get(sha256)
        now = time.monotonic()
        is_known = hit is not None and hit[1] is not None and now - hit[0] < GRACE_SECONDS
        is_old = hit is None or now - hit[0] > (self._max_age if hit[1] else 5.0)
        if is_old and not (is_known and now < self._away_until):
            if len(self._known) >= self._size:
                self.clear()
            known = self._known
            try:
                await self._asked.want([sha256])
            except (OperationalError, PoolTimeout):
                if not is_known:
                    raise
                self._away_until = time.monotonic() + ASK_AGAIN_SECONDS
            else:
                hit = known[sha256]
        assert hit is not None
        if hit[1] is None:
            raise Unauthorized(
                "The key is unknown, revoked or expired; create one with `headwater key create`."
            )
        return hit[1]

    async def _find(self, known: Known, digests: list[bytes]) -> None:
        now = time.monotonic()
        async with (
            self._pool.connection() as connection,
            connection.cursor(row_factory=class_row(KeyRow)) as cursor,
        ):
            await cursor.execute(SQL["principals_by_digest"], {"digests": digests})
            found = {row.secret_sha256: row.principal() for row in await cursor.fetchall()}
        known.update((sha256, (now, found.get(sha256))) for sha256 in digests)


class KeyRow(msgspec.Struct, frozen=True):
    """A row of principals_by_digest."""

    secret_sha256: bytes
    name: str
    api_key_id: int
    tenant_id: int | None
    role: str
    sensor_ids: list[int] | None
    is_auto_register: bool
    key_readings_per_second: float | None
    key_burst: float | None
    tenant_readings_per_second: float | None
    tenant_burst: float | None

    def principal(self) -> Principal:
        """Who it is."""
        return Principal(
            name=self.name,
            api_key_id=self.api_key_id,
            tenant_id=self.tenant_id,
            role=self.role,
            sensor_ids=None if self.sensor_ids is None else frozenset(self.sensor_ids),
            is_auto_register=self.is_auto_register,
            key_readings_per_second=self.key_readings_per_second,
            key_burst=self.key_burst,
            tenant_readings_per_second=self.tenant_readings_per_second,
            tenant_burst=self.tenant_burst,
        )


def demand(principal: Principal, permission: Permission) -> None:
    """Raise Forbidden unless the caller's role has the permission."""
    if permission not in principal.permissions:
        raise Forbidden(
            f"Role {principal.role} lacks {permission.value}; use a key of a role that has it."
        )
