"""A connection for a command, and its failures in one line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from app.db.pool import Connection, connect
from app.errors import CommandError
from app.settings import Settings


@asynccontextmanager
async def command_connection(
    settings: Settings, url: str | None = None
) -> AsyncIterator[Connection]:
    """Connect as the API does, or with `url`. Raises CommandError for whatever a person can mend."""
    try:
        connection = await connect(url or settings.database_url, application="headwater-cli")
    except psycopg.Error as exc:
        raise CommandError(
            f"can't connect to the database ({str(exc).strip().splitlines()[-1]}); start it with "
            "`headwater dev up` or set DATABASE_URL"
        ) from None
    async with connection:
        try:
            yield connection
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as exc:
            raise CommandError(
                f"the database lacks our schema ({exc.diag.message_primary}); run `headwater migrate`"
            ) from None
        except psycopg.errors.InsufficientPrivilege as exc:
            is_owner = url == settings.owner_database_url
            remedy = "; set OWNER_DATABASE_URL, as for `headwater migrate`" if is_owner else ""
            raise CommandError(f"{exc.diag.message_primary}{remedy}") from None
        except psycopg.Error as exc:
            raise CommandError(exc.diag.message_primary or str(exc).strip()) from None
