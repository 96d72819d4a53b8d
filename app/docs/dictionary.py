"""The data dictionary: docs/data-dictionary.md, written from a migrated database's catalogue.

What `sql/edition/<edition>/` makes stands in a section of that edition. A server has one edition only, so
the other edition's section is taken over from the page as it is: the page is the same wherever it
is written.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec
from psycopg import AsyncConnection

from app.docs import catalogue
from app.docs.catalogue import (
    DictionaryColumn,
    DictionaryGrant,
    DictionaryRelation,
    DictionaryRole,
    DictionaryRoutine,
    DictionaryRule,
    DictionarySchema,
)
from app.paths import ROOT, SQL

PAGE = ROOT / "docs" / "data-dictionary.md"
EDITIONS = ("apache", "community")

HEAD = """# Data dictionary

Every schema, table, view, function and grant of the database, written by `headwater docs dictionary`
from the database itself; a test compares. Edit the comments in `migrations/` and `sql/`, never this page.
"""

CREATES = re.compile(
    r"^create\s+(?:or\s+replace\s+)?(?:unlogged\s+)?"
    r"(?:materialized\s+view|table|view|function|procedure|type|index)\s+(?:if\s+not\s+exists\s+)?([\w.]+)",
    re.IGNORECASE | re.MULTILINE,
)


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page needs."""

    schemas: list[DictionarySchema]
    relations: list[DictionaryRelation]
    columns: list[DictionaryColumn]
    rules: list[DictionaryRule]
    routines: list[DictionaryRoutine]
    roles: list[DictionaryRole]
    grants: list[DictionaryGrant]


async def read(connection: AsyncConnection) -> Catalogue:
    """Ask the database, with nothing on the search path so that every name is written in full."""
    async with connection.transaction():
        await connection.execute("set local search_path = pg_catalog")
        schemas = await catalogue.dictionary_schemas(connection)
        names = [row.schema for row in schemas]
        return Catalogue(
            schemas=schemas,
            relations=await catalogue.dictionary_relations(connection, schemas=names),
            columns=await catalogue.dictionary_columns(connection, schemas=names),
            rules=await catalogue.dictionary_rules(connection, schemas=names),
            routines=await catalogue.dictionary_routines(connection, schemas=names),
            roles=await catalogue.dictionary_roles(connection),
            grants=await catalogue.dictionary_grants(connection, schemas=names),
        )


def edition_objects() -> frozenset[str]:
    """Names in full of what the files of these editions make."""
    texts = (
        file.read_text() for name in EDITIONS for file in (SQL / "edition" / name).rglob("*.sql")
    )
    return frozenset(name.lower() for text in texts for name in CREATES.findall(text))


def page(found: Catalogue, *, edition: str, before: str) -> str:
    """The page; `before` is the one that exists."""
    special = edition_objects()
    parts = [HEAD, _roles(found)]
    for schema in found.schemas:
        parts.append(f"## {schema.schema}\n\n{schema.comment}\n")
        parts += _objects(found, schema.schema, special, is_special=False)
    for name in EDITIONS:
        parts.append(_marker(name))
        if name == edition:
            parts.append(f"## Only on the {name} edition\n")
            parts.append(_indexes(found, special))
            for schema in found.schemas:
                parts += _objects(found, schema.schema, special, is_special=True)
        else:
            parts.append(_section(before, name))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part.strip())


def _marker(edition: str) -> str:
    return f"<!-- edition: {edition} -->\n"


def _section(text: str, edition: str) -> str:
    """What stands under an edition's marker."""
    _, found, rest = text.partition(_marker(edition))
    if not found:
        return f"## Only on the {edition} edition\n\nWritten on a server of that edition.\n"
    return rest.partition("<!-- edition: ")[0].strip("\n") + "\n"


def _roles(found: Catalogue) -> str:
    usage = defaultdict(list)
    for grant in found.grants:
        if grant.name == "":
            usage[grant.role].append(f"`{grant.schema}` ({grant.privileges})")
    lines = ["## Roles\n", "| role | for | schemas |", "|---|---|---|"]
    lines += [
        f"| `{row.role}` | {_cell(row.comment)} | {', '.join(usage[row.role])} |"
        for row in found.roles
    ]
    return "\n".join(lines) + "\n"


def _objects(
    found: Catalogue, schema: str, special: frozenset[str], *, is_special: bool
) -> Iterator[str]:
    for relation in found.relations:
        if relation.schema == schema and (f"{schema}.{relation.name}" in special) is is_special:
            yield _relation(found, relation, special)
    for routine in found.routines:
        if routine.schema == schema and (f"{schema}.{routine.name}" in special) is is_special:
            yield _routine(found, routine)


def _indexes(found: Catalogue, special: frozenset[str]) -> str:
    """Those that an edition adds to a table that every edition has."""
    return "\n".join(
        f"- `{row.name}` on {row.schema}.{row.relation}: `{_cell(row.definition)}`"
        for row in found.rules
        if row.name in special and f"{row.schema}.{row.relation}" not in special
    )


def _relation(found: Catalogue, relation: DictionaryRelation, special: frozenset[str]) -> str:
    mine = (relation.schema, relation.name)
    columns = [row for row in found.columns if (row.schema, row.relation) == mine]
    rules = [row for row in found.rules if (row.schema, row.relation) == mine]
    if f"{relation.schema}.{relation.name}" not in special:
        rules = [row for row in rules if row.name not in special]
    lines = [
        f"### {relation.schema}.{relation.name}\n",
        f"{relation.kind.capitalize()}. {relation.comment}\n",
    ]
    lines += ["| column | type | null | default | meaning |", "|---|---|---|---|---|"]
    is_view = relation.kind in ("view", "continuous aggregate", "type")
    for column in columns:
        null = "" if is_view or not column.is_not_null else "not null"
        default = f"`{_cell(column.default)}`" if column.default else ""
        lines.append(
            f"| `{column.name}` | {column.type} | {null} | {default} | {_cell(column.comment)} |"
        )
    if rules:
        lines += ["", *(f"- `{rule.name}`: `{_cell(rule.definition)}`" for rule in rules)]
    return "\n".join(lines) + "\n" + _granted(found, relation.schema, relation.name)


def _routine(found: Catalogue, routine: DictionaryRoutine) -> str:
    result = f" → {routine.result}" if routine.result else ""
    definer = " Runs as its owner." if routine.is_security_definer else ""
    return (
        f"### {routine.schema}.{routine.name}()\n\n"
        f"{routine.kind.capitalize()} `{routine.name}({routine.arguments}){result}`\n\n"
        f"{routine.comment}{definer}\n"
    ) + _granted(found, routine.schema, f"{routine.name}({routine.arguments})")


def _granted(found: Catalogue, schema: str, name: str) -> str:
    grants: Iterable[DictionaryGrant] = (
        row for row in found.grants if (row.schema, row.name) == (schema, name)
    )
    text = "; ".join(f"`{row.role}`: {row.privileges}" for row in grants)
    return f"\nGranted to {text}.\n" if text else ""


def _cell(text: str) -> str:
    """One line, with nothing that ends a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
