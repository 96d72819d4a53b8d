"""Brings the database's part of a query's rows to DuckDB: as Parquet files in the query's own folder.

They are read as headwater_sql, with the caller's pass, through the views of schema tenant, as any query
is: by DuckDB's own reader, which takes millions of rows a second and no lock of Python's. That instance
is not the one that answers: it knows the database's address, and never sees a person's text (only
conditions that the guard approved and wrote).
"""

import asyncio
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

import duckdb
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.archive.lake import address, beside, home, literal, load
from app.db.pool import Connection
from app.db.queries import queries
from app.errors import QueryRefused, QueryTooCostly, Unavailable
from app.settings import Settings

SQL = queries("query")


async def gather(
    connection: Connection,
    loads: dict[str, str],
    folder: Path,
    *,
    permit: str,
    settings: Settings,
) -> dict[str, Path]:
    """A file for each statement; `connection` cancels them where the caller gives up."""
    application = f"headwater-sql-{folder.name}"[:63]
    server = address(
        _direct(settings) if connection.is_pooled else settings.sql_database_url,
        application=application,
        timezone="UTC",
        statement_timeout=f"{settings.sql_timeout_seconds}s",
        default_transaction_read_only="on",
        search_path="public",
        work_mem="32MB",
        jit="off",
        **{"headwater.pass": permit},
    )
    source = await asyncio.to_thread(_source, settings.sql_memory_mb)
    here = source.cursor()
    name = "pg_" + uuid4().hex

    def work() -> dict[str, Path]:
        here.execute(f"attach {literal(server)} as {name} (type postgres, read_only)")
        try:
            for view, text in loads.items():
                here.execute(
                    f"copy (select * from postgres_query('{name}', {literal(text)}))"
                    f" to {literal(str(folder / view))} (format parquet, compression snappy)"
                )
        finally:
            with suppress(duckdb.Error):
                here.execute(f"detach {name}")
        return {view: folder / view for view in loads}

    async def interrupt() -> None:
        here.interrupt()
        # it may wait for the database, which hears nothing of that
        await connection.execute(SQL["sql_cancel"], {"application": application})

    try:
        return await beside(work, interrupt)
    except duckdb.Error as exc:
        raise _problem(exc) from None
    finally:
        here.close()


@cache
def _source(memory_mb: int) -> duckdb.DuckDBPyConnection:
    """One for the process: loading the reader takes longer than most queries."""
    base = home()
    made = duckdb.connect(
        config={
            "memory_limit": f"{memory_mb}MB",
            "threads": 2,
            "home_directory": str(base),
            "extension_directory": str(base / "extensions"),
            "temp_directory": str(base / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    load(made, "postgres")
    made.execute("set global timezone = 'UTC'")
    return made


def _direct(settings: Settings) -> str:
    """The address around a pooler, which would not pass the session's settings on."""
    server = conninfo_to_dict(settings.direct_database_url)
    around = {key: server[key] for key in ("host", "hostaddr", "port", "dbname") if key in server}
    return make_conninfo("", **(conninfo_to_dict(settings.sql_database_url) | around))


def _problem(exc: duckdb.Error) -> Exception:
    text = str(exc)
    if "canceling statement due to" in text:
        return TimeoutError()
    if isinstance(exc, duckdb.OutOfMemoryException):
        return QueryTooCostly(
            "sql: the query needs more memory or space than it may have; ask for less."
        )
    if "connect" in text.lower() or "terminating" in text:
        return Unavailable(
            "The database can't be reached; try again.", headers={"Retry-After": "1"}
        )
    reason = text.rsplit("ERROR:", 1)[-1].strip().splitlines()[0][:300]
    return QueryRefused(f"sql: {reason}.", reason=reason)
