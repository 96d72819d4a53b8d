"""Takes people's queries over HTTP, a few at a time, on connections that serve nothing else."""

from psycopg_pool import PoolTimeout, TooManyRequests

from app.db.pool import Pool, pool_for
from app.errors import Unavailable
from app.query.answer import Answer
from app.query.run import Question, run, sql_pass
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
        if self._pool is None:
            raise Unavailable("People's SQL is not set up here: SQL_DATABASE_URL is empty.")
        async with self._main.connection() as main:
            permit = await sql_pass(main, tenant_id=question.tenant_id)
        try:
            async with self._pool.connection() as connection:
                return await run(
                    connection, question, permit, self._main.connection, self._settings
                )
        except (PoolTimeout, TooManyRequests):
            raise Unavailable(
                "Too many queries run at this moment; try again.", headers={"Retry-After": "5"}
            ) from None
