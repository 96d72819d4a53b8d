"""Database logins bound to one tenant: for psql, notebooks and BI tools.

Such a login sees schema `tenant`, filtered by its own name (`session_user`), which no `set` changes.
What is set on the role besides (read-only, time-out, search_path) is comfort, not a wall.
"""

import secrets

from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DependentObjectsStillExist
from psycopg.rows import scalar_row

from app.db.queries import queries
from app.errors import CommandError
from app.identity.tenant import tenant_id_of

SQL = queries("identity")
PREFIX = "tenant_"
PLATFORM = ("headwater_analyst", "headwater_grafana")
"""Logins that see every tenant's rows."""
LONGEST = 63
MOST_CONNECTIONS = 5
SETTINGS = (
    ("search_path", "tenant, public"),
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "5min"),
    ("timezone", "UTC"),
)


def role_of(slug: str) -> str:
    """The login's name. Raises CommandError for a slug that is too long for one."""
    name = PREFIX + slug
    if len(name) > LONGEST:
        raise CommandError(f"slug {slug!r}: a login's name has at most {LONGEST} characters")
    return name


async def make_login(connection: AsyncConnection, slug: str, url: str) -> str:
    """Create the login or give it a new password; its address. The connection may create roles."""
    tenant_id = await tenant_id_of(connection, slug)
    name = role_of(slug)
    role = sql.Identifier(name)
    password = secrets.token_urlsafe(24)
    verifier = connection.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    ).decode()
    async with connection.transaction():
        # two at once: the second waits here
        await connection.execute("lock table identity.analyst_login in exclusive mode")
        cursor = await connection.execute("select from pg_roles where rolname = %s", [name])
        bound = await connection.execute(
            "select tenant_id from identity.analyst_login where role_name = %s", [name]
        )
        if await cursor.fetchone() is None:
            await connection.execute(sql.SQL("create role {}").format(role))
        elif await bound.fetchone() is None:
            raise CommandError(
                f"there is a database role {name} that is not ours; rename or drop it"
            )
        await connection.execute(
            sql.SQL("alter role {} login connection limit {} password {}").format(
                role, sql.Literal(MOST_CONNECTIONS), sql.Literal(verifier)
            )
        )
        await connection.execute(sql.SQL("grant headwater_sql to {}").format(role))
        for setting, value in SETTINGS:
            await connection.execute(
                sql.SQL("alter role {} set {} = {}").format(
                    role, sql.Identifier(setting), _value(setting, value)
                )
            )
        await connection.execute(
            "insert into identity.analyst_login (role_name, tenant_id) values (%s, %s)"
            " on conflict (role_name) do update set tenant_id = excluded.tenant_id",
            [name, tenant_id],
        )
    await connection.execute("select identity.admit(%s, %s)", [name, password])
    parts = conninfo_to_dict(url)
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{name}:{password}@{parts.get('host') or 'localhost'}{port}/" + str(
        parts.get("dbname") or ""
    )


async def login_tenant(connection: AsyncConnection, *, login: str) -> int | None:
    """The tenant that a login is bound to."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["login_tenant"], {"login": login})
        return await cursor.fetchone()


async def drop_login(connection: AsyncConnection, slug: str) -> str:
    """Remove the login and end its sessions. The connection may drop roles."""
    name = role_of(slug)
    sessions = await connection.execute(
        "select pid from pg_stat_activity where usename = %s", [name]
    )
    async with connection.transaction():
        cursor = await connection.execute(
            "delete from identity.analyst_login where role_name = %s", [name]
        )
        if not cursor.rowcount:
            raise CommandError(f"the tenant {slug!r} has no login; nothing to revoke")
        await connection.execute("select identity.admit(%s, null)", [name])
        try:
            await connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))
        except DependentObjectsStillExist as exc:
            raise CommandError(f"{name}: {exc.diag.message_primary}") from None
    for row in await sessions.fetchall():
        await connection.execute("select pg_terminate_backend(%s::integer)", row)
    return f"revoked {name}"


def _value(setting: str, value: str) -> sql.Composable:
    """A list of names for search_path, a literal for all others."""
    if setting == "search_path":
        return sql.SQL(", ").join(sql.Identifier(part) for part in value.split(", "))
    return sql.Literal(value)
