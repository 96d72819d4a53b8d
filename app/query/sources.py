"""What a SELECT reads, and which of its conditions speak of one of these parts alone.

A condition is taken where leaving out the rows it fails can't change the answer: a conjunct of WHERE, or
of the ON of an inner join, over one view alone. Where an outer join may fill that view with nulls, only
comparisons are taken, which no null passes. What is not understood is not taken. The statement must have
been planned by PostgreSQL before, which refuses a bare name that two parts have.
"""

from collections.abc import Iterator

import msgspec
from sqlglot import exp

from app.query.names import views
from app.query.words import TABLES

READING = "reading"
VOLATILE = frozenset(("random", "clock_timestamp"))
COMPARISONS = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ, exp.NEQ)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A part of FROM."""

    table: exp.Expr
    join: exp.Join | None
    alias: str
    columns: tuple[str, ...] | None
    """None: not a view, so nobody knows."""
    is_filled: bool
    """An outer join may fill it with nulls."""


def sources(select: exp.Select) -> list[Source]:
    """FROM and what is joined to it."""
    begin = select.args.get("from_")
    if begin is None:
        return []
    joins: list[exp.Join] = select.args.get("joins") or []
    parts = [(begin.this, None), *((join.this, join) for join in joins)]
    known = {id(table) for table in views(select)}
    fills_others = any(join.side in ("RIGHT", "FULL") for join in joins)
    found = []
    for table, join in parts:
        names = table.args.get("alias")
        is_known = (
            id(table) in known
            and not table.args.get("joins")
            and not (names is not None and names.args.get("columns"))
        )
        found.append(
            Source(
                table=table,
                join=join,
                alias=table.alias_or_name,
                columns=TABLES.get(table.name) if is_known else None,
                is_filled=fills_others or (join is not None and join.side == "LEFT"),
            )
        )
    return found


def conjuncts(select: exp.Select, mine: Source) -> Iterator[exp.Expr]:
    """Conditions of which a row of the source must pass each, or leave the answer as it is."""
    where = select.args.get("where")
    everywhere = [where.this] if where is not None else []
    own = []
    for join in select.args.get("joins") or ():
        on = join.args.get("on")
        if on is None:
            continue
        if join.side == "":
            everywhere.append(on)
        elif join.side == "LEFT" and join is mine.join:
            own.append(on)
    for one in everywhere:
        for conjunct in split(one):
            if not mine.is_filled or _is_strict(conjunct):
                yield conjunct
    for one in own:
        yield from split(one)


def split(node: exp.Expr) -> Iterator[exp.Expr]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from split(node.this)
        yield from split(node.expression)
    else:
        yield node


def _is_strict(node: exp.Expr) -> bool:
    """Whether no null passes: a comparison of a bare column."""
    if isinstance(node, exp.Between | exp.In):
        return isinstance(node.this, exp.Column)
    if isinstance(node, COMPARISONS):
        return isinstance(node.this, exp.Column) or isinstance(node.expression, exp.Column)
    return False


def is_about(node: exp.Expr, mine: Source, parts: list[Source]) -> bool:
    """Whether a condition asks for columns of this source alone, and has the same answer any time."""
    found = False
    inner = {id(part) for query in node.find_all(exp.Query) for part in query.walk()}
    if any(not _is_closed(query) for query in node.find_all(exp.Query)):
        return False
    if isinstance(node, exp.In) and inner and not isinstance(node.this, exp.Column):
        return False
    for call in node.find_all(exp.Anonymous):
        if str(call.this).lower() in VOLATILE:
            return False
    for column in node.find_all(exp.Column):
        if id(column) in inner:
            continue
        if not belongs(column, mine, parts):
            return False
        found = True
    return found


def belongs(column: exp.Column, mine: Source, parts: list[Source]) -> bool:
    """Whether it is this source's; PostgreSQL has found the statement's names to be unambiguous."""
    name = column.name
    if mine.columns is None or name not in mine.columns:
        return False
    if column.table:
        return column.table == mine.alias
    return not any(_merges(source, name) for source in parts)


def _merges(source: Source, name: str) -> bool:
    """Whether a join makes one column of two."""
    if source.join is None:
        return False
    using = [identifier.name for identifier in source.join.args.get("using") or ()]
    return name in using or source.join.method == "NATURAL"


def _is_closed(query: exp.Query) -> bool:
    """A sub-select of one view with columns of its own; readings may be cold, so they don't do."""
    if isinstance(query, exp.Subquery):
        return isinstance(query.this, exp.Select) and not query.args.get("joins")
    if not isinstance(query, exp.Select) or query.args.get("with_"):
        return False
    parts = sources(query)
    if len(parts) != 1 or parts[0].columns is None or parts[0].table.name == READING:
        return False
    (mine,) = parts
    if any(inner is not query for inner in query.find_all(exp.Query)):
        return False
    return all(belongs(column, mine, parts) for column in query.find_all(exp.Column))


def bare(node: exp.Expr) -> exp.Expr:
    """The condition without aliases before its columns."""
    made = node.copy()
    inner = {id(part) for query in made.find_all(exp.Query) for part in query.walk()}
    for column in list(made.find_all(exp.Column)):
        if id(column) not in inner:
            column.set("table", None)
    return made
