"""The local cluster's login roles and the empty database; everything else is the migrations'."""

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from app.local.credentials import DATABASE, OWNER, ROLES, Credentials


def connect(url: str) -> "psycopg.Connection[TupleRow]":
    """psycopg.OperationalError where the server is gone or recovers from a crash."""
    return psycopg.connect(url, autocommit=True, connect_timeout=30)


def make_roles(
    connection: "psycopg.Connection[TupleRow]", credentials: Credentials, fresh: frozenset[str]
) -> None:
    """Create what is missing; set the passwords of `fresh` roles and of those that have none.

    Passwords go over as SCRAM verifiers, so that no log ever holds one.
    """
    with connection:
        rows = connection.execute("select rolname, rolpassword is not null from pg_authid")
        has_password: dict[str, bool] = dict(rows.fetchall())
        for role in ROLES:
            name = sql.Identifier(role)
            if role not in has_password:
                connection.execute(sql.SQL("create role {} login").format(name))
            if role in fresh or not has_password.get(role):
                verifier = connection.pgconn.encrypt_password(
                    credentials.passwords[role].encode(), role.encode(), b"scram-sha-256"
                )
                connection.execute(
                    sql.SQL("alter role {} login password {}").format(
                        name, sql.Literal(verifier.decode())
                    )
                )
        found = connection.execute("select from pg_database where datname = %s", [DATABASE])
        if not found.fetchall():
            connection.execute(
                sql.SQL("create database {} owner {} template template0").format(
                    sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
            )
