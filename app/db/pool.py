"""PostgreSQL connections.

One pool for reads and small writes; the readings' writers keep connections of their own. Every
session runs in UTC and names its process. A pool opens even while the server is down: requests then
fail with 503 until it is back, without a restart.
"""

from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from app.settings import Settings


def conninfo(url: str, *, application: str) -> str:
    """The URL with what every session of ours has; PG* variables fill what it leaves out."""
    return make_conninfo(url, application_name=application, options="-c timezone=UTC")


async def connect(url: str, *, application: str) -> AsyncConnection:
    """One connection in autocommit: the caller opens the transactions."""
    return await AsyncConnection.connect(conninfo(url, application=application), autocommit=True)


def make_pool(settings: Settings) -> AsyncConnectionPool:
    """The API's pool, still closed."""

    async def configure(connection: AsyncConnection) -> None:
        await connection.set_autocommit(True)
        await connection.execute(
            "select set_config('statement_timeout', %s, false)",
            (f"{settings.statement_timeout_seconds}s",),
        )

    return AsyncConnectionPool(
        conninfo(settings.database_url, application="headwater-api"),
        min_size=1,
        max_size=settings.pool_size,
        timeout=5,
        open=False,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
    )
