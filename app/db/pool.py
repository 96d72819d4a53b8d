"""PostgreSQL connections.

One pool for reads and small writes; the readings' writers keep connections of their own. Every
session runs in UTC and names its process. A pool opens even while the server is down: requests then
fail with 503 until it is back, without a restart.

A server that gives no answer, and one that takes no writes any more, are lost connections: each is
closed, raises OperationalError and is made anew, perhaps to another host of the address.

Behind a pooler in transaction mode (detected) nothing outlives a transaction: nothing is prepared, and
settings are made anew at the begin of each.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncTransaction, sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from app.db import array
from app.errors import CommandError
from app.settings import Settings

array.register()

RV = TypeVar("RV")

CONNECT_SECONDS = "5"
NETWORK = {
    "tcp_user_timeout": "10000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""A host that is gone is noticed within half a minute, whether we send or wait."""
CHECK_SECONDS = 4.0
GRACE_SECONDS = 5.0
"""An answer may come so much later than the server's own time-out."""
INTERVAL = 0.1


class Connection(AsyncConnection[Any]):
    """A connection in autocommit that waits no longer than `patience` seconds for an answer."""

    patience: float | None = None
    is_pooled = False
    """Whether a pooler stands in between: each transaction may then have another session."""
    _settings = b""

    async def set_up(
        self, settings: Mapping[str, str] | None = None, *, patience: float | None = None
    ) -> None:
        """Once, after connecting: these settings are for whatever is done."""
        await self.set_autocommit(True)
        self.patience = patience
        cursor = await self.execute("select pg_backend_pid()")
        row = await cursor.fetchone()
        self.is_pooled = row is not None and row[0] != self.info.backend_pid
        if self.is_pooled:
            self.prepare_threshold = None
        if settings:
            parts = [
                sql.SQL("set_config({}, {}, {})").format(name, value, self.is_pooled)
                for name, value in settings.items()
            ]
            self._settings = sql.SQL("select {}").format(sql.SQL(", ").join(parts)).as_bytes(self)
            if not self.is_pooled:
                await self.execute(self._settings)

    @property
    def opening(self) -> str:
        """What begins a transaction here."""
        settings = self._settings.decode() if self.is_pooled else ""
        return f"begin; {settings}" if settings else "begin"

    async def check(self) -> None:
        """Raise OperationalError where the server does not answer soon.

        Behind a pooler this opens the transaction in which a pool's connection is used.
        """
        before, self.patience = self.patience, CHECK_SECONDS
        try:
            begin = b"begin read only;" if self.read_only else b"begin;"
            await self.execute(begin + self._settings if self.is_pooled else b"")
        finally:
            self.patience = before

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """As psycopg's; behind a pooler the outermost one begins with the settings."""
        is_outermost = self.pgconn.transaction_status == TransactionStatus.IDLE
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            if self.is_pooled and is_outermost and self._settings:
                await self.execute(self._settings)
            yield transaction

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = INTERVAL,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's own
    ) -> RV:
        """As psycopg's. Raises OperationalError, closed, for no answer and for a read-only server."""
        try:
            return await super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.errors.ReadOnlySqlTransaction as exc:
            if self.read_only:  # as we wanted it
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server takes no writes: {exc}") from None
        except psycopg.OperationalError as exc:
            if timeout is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    f"the server did not answer within {self.patience} s"
                ) from exc
            raise


Pool = AsyncConnectionPool[Connection]


def conninfo(url: str, *, application: str) -> str:
    """The URL with what every session of ours has; PG* variables fill what it leaves out."""
    defaults = dict(NETWORK)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        defaults["connect_timeout"] = CONNECT_SECONDS
    ours = {"application_name": application, "options": "-c timezone=UTC"}
    return make_conninfo("", **{**defaults, **conninfo_to_dict(url), **ours})


async def connect(
    url: str,
    *,
    application: str,
    settings: Mapping[str, str] | None = None,
    patience: float | None = None,
) -> Connection:
    """One connection in autocommit: the caller opens the transactions."""
    connection = await Connection.connect(conninfo(url, application=application))
    try:
        await connection.set_up(settings, patience=patience)
    except BaseException:
        await connection.close()
        raise
    return connection


async def connect_direct(url: str, *, application: str, variable: str) -> Connection:
    """A connection whose session is its own. Raises CommandError where a pooler stands in between."""
    connection = await connect(url, application=application)
    try:
        refuse_pooler(connection, variable)
    except CommandError:
        await connection.close()
        raise
    return connection


def refuse_pooler(connection: Connection, variable: str) -> None:
    """Raise CommandError unless the connection's session is its own."""
    if connection.is_pooled:
        raise CommandError(
            f"{variable} leads through a pooler, but this needs a session of its own "
            f"(locks, temporary tables): set {variable} to the server itself"
        )


def pool_for(
    url: str,
    *,
    application: str,
    seconds: int,
    size: int,
    settings: Mapping[str, str] | None = None,
    is_read_only: bool = False,
    **more: Any,
) -> Pool:
    """A pool, still closed, for statements that the server ends after so many seconds."""

    async def configure(connection: Connection) -> None:
        await connection.set_up(settings, patience=seconds + GRACE_SECONDS)
        await connection.set_read_only(is_read_only or None)

    options: dict[str, Any] = {"min_size": 1, "timeout": 5, "configure": configure} | more
    return AsyncConnectionPool(
        conninfo(url, application=application),
        connection_class=Connection,
        max_size=size,
        open=False,
        check=Connection.check,
        **options,
    )


def make_pool(settings: Settings) -> Pool:
    """The API's pool for reads and small writes."""
    seconds = settings.statement_timeout_seconds
    return pool_for(
        settings.database_url,
        application="headwater-api",
        seconds=seconds,
        size=settings.pool_size,
        settings={"statement_timeout": f"{seconds}s"},
    )
