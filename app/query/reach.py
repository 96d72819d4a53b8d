"""What a query needs of each view: conditions that bound it, and how far back its readings go.

Whatever is not understood bounds nothing, so a doubt costs time and never rows. The conditions' columns
are left without alias: they stand alone beside their view.
"""

from collections.abc import Iterator

import msgspec
from sqlglot import exp

from app.query.names import views
from app.query.sources import READING, Source, bare, conjuncts, is_about, sources, split

LINKS = ("sensor_id", "metric_id")
"""Columns through which a condition on one view bounds another."""

_LOWER = (exp.GT, exp.GTE, exp.EQ)
_UPPER = (exp.LT, exp.LTE, exp.EQ)
_MIRROR: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.EQ: exp.EQ,
}


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one mention of a view needs of it."""

    view: str
    conditions: list[exp.Expr] = []
    lower: list[exp.Expr] = []
    """Constants that `ts` is not below; empty: it goes all the way back."""
    upper: list[exp.Expr] = []
    oldest: exp.Select | None = None
    """Where it asks for the newest readings only: finds the time of the oldest of them."""


def needs(tree: exp.Query) -> list[Need]:
    """One for each mention of a view in a checked tree."""
    return [_need(table) for table in views(tree)]


def condition(found: list[Need]) -> exp.Expr | None:
    """What a row must pass to be needed by any mention of its view; None: every row is needed."""
    if not all(need.conditions for need in found):
        return None
    either = [exp.and_(*need.conditions, copy=True) for need in found]
    return exp.or_(*either, copy=True)


def _need(table: exp.Table) -> Need:
    select = table.find_ancestor(exp.Select)
    parts = sources(select) if select is not None else []
    mine = next((source for source in parts if source.table is table), None)
    if select is None or mine is None or mine.columns is None:
        return Need(view=table.name)
    conditions = [
        bare(conjunct) for conjunct in conjuncts(select, mine) if is_about(conjunct, mine, parts)
    ]
    lower: list[exp.Expr] = []
    upper: list[exp.Expr] = []
    oldest = None
    if table.name == READING:
        oldest = _oldest(select, parts, conditions)
        for one in conditions:
            for kind, value in _bounds(one):
                lower += [value] if issubclass(kind, _LOWER) else []
                if issubclass(kind, _UPPER):
                    upper.append(_before(value) if kind is exp.LT else value)
    return Need(
        view=table.name,
        conditions=conditions + _linked(select, mine, parts),
        lower=lower,
        upper=upper,
        oldest=oldest,
    )


def _oldest(
    select: exp.Select, parts: list[Source], conditions: list[exp.Expr]
) -> exp.Select | None:
    """For `order by ts desc limit …` of readings alone."""
    order, limit = select.args.get("order"), select.args.get("limit")
    known = ("kind", "from_", "expressions", "where", "order", "limit", "offset")
    if order is None or limit is None or len(parts) != 1:
        return None
    if any(value for key, value in select.args.items() if key not in known):
        return None
    first = order.expressions[0]
    where = select.args.get("where")
    if not (_is_ts(first.this) and first.args.get("desc")) or not all(
        _is_plain(one) for one in select.expressions
    ):
        return None
    if len(list(split(where.this)) if where is not None else []) != len(conditions):
        return None
    offset = select.args.get("offset")
    cut = limit.args.get("count") or limit.args.get("expression")
    counts = [cut, offset.expression if offset is not None else exp.Literal.number(0)]
    if not all(isinstance(one, exp.Literal) and one.is_int for one in counts):
        return None
    count = sum(int(str(one.this)) for one in counts)
    if count < 1:
        return None
    ts = exp.column(exp.to_identifier("ts", True))
    rows = exp.select(ts).from_(exp.table_(READING, quoted=True)).where(*conditions, copy=True)
    newest_first = exp.Ordered(this=ts.copy(), desc=True, nulls_first=True)
    return rows.order_by(newest_first).limit(1).offset(count - 1)


def _is_plain(node: exp.Expr) -> bool:
    """A part of the select list that makes one row of one, and takes no other's name."""
    if isinstance(node, exp.Alias) and node.alias == "ts":
        return False
    return node.find(exp.Anonymous, exp.Window, exp.Query) is None


def _bounds(node: exp.Expr) -> Iterator[tuple[type[exp.Expr], exp.Expr]]:
    """(comparison, constant) of `ts`."""
    if isinstance(node, exp.Between):
        if _is_ts(node.this) and not node.args.get("symmetric"):
            yield from (
                (kind, node.args[key])
                for kind, key in ((exp.GTE, "low"), (exp.LTE, "high"))
                if _is_constant(node.args[key])
            )
    elif type(node) in _MIRROR:
        if _is_ts(node.this) and _is_constant(node.expression):
            yield type(node), node.expression
        elif _is_ts(node.expression) and _is_constant(node.this):
            yield _MIRROR[type(node)], node.this


def _before(value: exp.Expr) -> exp.Expr:
    """The last instant that is less, so that a day's end reads nothing of the next."""
    moment, step = (
        exp.Cast(this=this, to=exp.DataType.build(kind, dialect="postgres"))
        for this, kind in (
            (value.copy(), "timestamptz"),
            (exp.Literal.string("1 microsecond"), "interval"),
        )
    )
    return exp.Sub(this=moment, expression=step)


def _is_ts(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and node.name == "ts"


def _is_constant(node: exp.Expr) -> bool:
    return node.find(exp.Column, exp.Query, exp.Any, exp.All) is None


def _linked(select: exp.Select, mine: Source, parts: list[Source]) -> list[exp.Expr]:
    """`sensor_id in (select sensor_id from sensor where …)` for inner joins with other views."""
    if mine.is_filled:
        return []
    found: list[exp.Expr] = []
    for other in parts:
        if other is mine or other.columns is None or other.is_filled:
            continue
        if other.table.name == READING:
            continue
        theirs = [
            bare(conjunct)
            for conjunct in conjuncts(select, other)
            if is_about(conjunct, other, parts)
        ]
        for name in LINKS:
            if theirs and _is_linked(select, mine, other, parts, name):
                quoted = exp.column(exp.to_identifier(name, True))
                rows = exp.select(quoted).from_(exp.table_(other.table.name, quoted=True))
                found.append(
                    exp.In(
                        this=quoted.copy(),
                        query=exp.Subquery(this=rows.where(*theirs, copy=True)),
                    )
                )
    return found


def _is_linked(
    select: exp.Select, mine: Source, other: Source, parts: list[Source], name: str
) -> bool:
    """Whether rows meet only where both have the same value in a column."""
    if name not in (mine.columns or ()) or name not in (other.columns or ()):
        return False
    for join in select.args.get("joins") or ():
        if join.side != "" or join.method == "NATURAL":
            continue
        if name in [identifier.name for identifier in join.args.get("using") or ()]:
            place = next(i for i, source in enumerate(parts) if source.join is join)
            having = [
                source
                for source in parts[:place]
                if source.columns is None or name in source.columns
            ]
            if {id(mine), id(other)} == {id(parts[place]), *map(id, having)}:
                return True
    for conjunct in conjuncts(select, mine):
        if isinstance(conjunct, exp.EQ):
            sides = (conjunct.this, conjunct.expression)
            if all(isinstance(side, exp.Column) and side.name == name for side in sides) and {
                side.table for side in sides
            } == {mine.alias, other.alias}:
                return True
    return False
