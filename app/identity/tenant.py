"""Tenants by their short name."""

from psycopg import AsyncConnection

from app.db.queries import queries
from app.errors import CommandError

SQL = queries("identity")


async def tenant_id_of(connection: AsyncConnection, slug: str) -> int:
    """The tenant's id. Raises CommandError where there is none."""
    cursor = await connection.execute(SQL["tenant_by_slug"], {"slug": slug})
    row = await cursor.fetchone()
    if row is None:
        raise CommandError(
            f"there is no tenant {slug!r}; create it with `headwater tenant create {slug}`"
        )
    return int(row[0])


async def put_tenant(
    connection: AsyncConnection, *, slug: str, title: str, is_auto_register: bool
) -> int:
    """Create a tenant, or give an existing one this title and policy; its id."""
    cursor = await connection.execute(
        SQL["tenant_insert"],
        {"slug": slug, "title": title, "is_auto_register": is_auto_register},
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
