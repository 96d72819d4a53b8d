"""Takes people's queries over HTTP, a few at a time, on connections that serve nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg_pool import PoolTimeout, TooManyRequests

from app.db.pool import Connection, Pool, pool_for
from app.errors import Unavailable
from app.query.answer import Answer, Sink
from app.query.run import Question, run, sql_pass, stream
from app.settings import Settings


class Desk:
    """Takes people's queries, a few at a time."""

    def __init__(self, settings: Settings, main: Pool) -> None:
        self._settings = settings
        self._main = main
        self._pool: Pool | None = None
        if settings.sql_database_url:
            self._pool = pool_for(
                settings.sql_database_url,
                application="headwater-sql",
                seconds=settings.sql_timeout_seconds,
                size=settings.sql_pool_size,
                is_read_only=True,
                min_size=0,
                max_waiting=settings.sql_pool_size * 8,
                timeout=10,
            )

    async def start(self) -> None:
        """Open the pool; no server need be there yet."""
        if self._pool is not None:
            await self._pool.open(wait=False)

    async def stop(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.close()

    async def answer(self, question: Question) -> Answer:
        """Raises QueryRefused, QueryTooCostly, Unavailable."""
        async with self._line(question) as (connection, permit):
            return await run(connection, question, permit, self._main.connection, self._settings)

    async def stream(self, question: Question, sink: Sink) -> None:
        """Rows of hot and cold to the sink. Raises QueryRefused, QueryTooCostly, Unavailable."""
        async with self._line(question) as (connection, permit):
            await stream(
                connection,
                question,
                permit,
                main=self._main.connection,
                settings=self._settings,
                sink=sink,
            )

    @asynccontextmanager
    async def _line(self, question: Question) -> AsyncIterator[tuple[Connection, str]]:
        """A connection and a pass."""
        if self._pool is None:
            raise Unavailable("People's SQL is not set up here: SQL_DATABASE_URL is empty.")
        async with self._main.connection() as main:
            permit = await sql_pass(main, tenant_id=question.tenant_id)
        try:
            async with self._pool.connection() as connection:
                yield connection, permit
        except (PoolTimeout, TooManyRequests):
            raise Unavailable(
                "Too many queries run at this moment; try again.", headers={"Retry-After": "5"}
            ) from None
