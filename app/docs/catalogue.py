"""What a migrated database says about itself: the statements behind the data dictionary."""

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.db.queries import queries

SQL = queries("docs")


class DictionarySchema(msgspec.Struct, frozen=True, kw_only=True):
    """A schema of ours."""

    schema: str
    comment: str


class DictionaryRelation(msgspec.Struct, frozen=True, kw_only=True):
    """A table, view or composite type."""

    schema: str
    name: str
    kind: str
    comment: str


class DictionaryColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column."""

    schema: str
    relation: str
    name: str
    type: str
    is_not_null: bool
    default: str
    comment: str


class DictionaryRule(msgspec.Struct, frozen=True, kw_only=True):
    """A constraint, index or trigger of a table."""

    schema: str
    relation: str
    name: str
    definition: str


class DictionaryRoutine(msgspec.Struct, frozen=True, kw_only=True):
    """A function or procedure."""

    schema: str
    name: str
    arguments: str
    kind: str
    result: str
    is_security_definer: bool
    comment: str


class DictionaryRole(msgspec.Struct, frozen=True, kw_only=True):
    """A database role of ours."""

    role: str
    comment: str


class DictionaryGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a role may do with a schema (no name), relation or routine."""

    schema: str
    name: str
    role: str
    privileges: str


async def dictionary_schemas(connection: AsyncConnection) -> list[DictionarySchema]:
    """Our schemas."""
    async with connection.cursor(row_factory=class_row(DictionarySchema)) as cursor:
        await cursor.execute(SQL["dictionary_schemas"])
        return await cursor.fetchall()


async def dictionary_relations(
    connection: AsyncConnection, *, schemas: list[str]
) -> list[DictionaryRelation]:
    """Tables, views, types."""
    async with connection.cursor(row_factory=class_row(DictionaryRelation)) as cursor:
        await cursor.execute(SQL["dictionary_relations"], {"schemas": schemas})
        return await cursor.fetchall()


async def dictionary_columns(
    connection: AsyncConnection, *, schemas: list[str]
) -> list[DictionaryColumn]:
    """Columns in their own order."""
    async with connection.cursor(row_factory=class_row(DictionaryColumn)) as cursor:
        await cursor.execute(SQL["dictionary_columns"], {"schemas": schemas})
        return await cursor.fetchall()


async def dictionary_rules(
    connection: AsyncConnection, *, schemas: list[str]
) -> list[DictionaryRule]:
    """Constraints, then indexes, then triggers."""
    async with connection.cursor(row_factory=class_row(DictionaryRule)) as cursor:
        await cursor.execute(SQL["dictionary_rules"], {"schemas": schemas})
        return await cursor.fetchall()


async def dictionary_routines(
    connection: AsyncConnection, *, schemas: list[str]
) -> list[DictionaryRoutine]:
    """Functions and procedures."""
    async with connection.cursor(row_factory=class_row(DictionaryRoutine)) as cursor:
        await cursor.execute(SQL["dictionary_routines"], {"schemas": schemas})
        return await cursor.fetchall()


async def dictionary_roles(connection: AsyncConnection) -> list[DictionaryRole]:
    """Our roles."""
    async with connection.cursor(row_factory=class_row(DictionaryRole)) as cursor:
        await cursor.execute(SQL["dictionary_roles"], {})
        return await cursor.fetchall()


async def dictionary_grants(
    connection: AsyncConnection, *, schemas: list[str]
) -> list[DictionaryGrant]:
    """What anybody but the owner may do."""
    async with connection.cursor(row_factory=class_row(DictionaryGrant)) as cursor:
        await cursor.execute(SQL["dictionary_grants"], {"schemas": schemas})
        return await cursor.fetchall()
