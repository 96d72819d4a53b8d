"""PostgreSQL's dialect to DuckDB's, on the tree of a checked statement.

What comes out must mean the same, or nothing comes out: each kind of node, function and type that may
stand in people's SQL is either the same in both, or made to be, or refused with the reason. Constants of
time are read by PostgreSQL first (`constants`): 'yesterday' and '1 day 2:30' mean what they mean there.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlglot import exp

from app.query.dialect import Archive
from app.query.duckdb_functions import (
    FUNCTIONS,
    NOW,
    SAME,
    WRAPPED,
    Untranslatable,
    call,
    cast,
    part,
    regexp,
    text_of,
)

Parameter = str | int | float | bool | None

_TYPES = exp.DataType.Type
MOMENTS = {_TYPES.TIMESTAMPTZ: "timestamptz", _TYPES.TIMESTAMP: "timestamp", _TYPES.DATE: "date"}
PLAIN = {
    *(_TYPES.BOOLEAN, _TYPES.SMALLINT, _TYPES.INT, _TYPES.BIGINT, _TYPES.FLOAT, _TYPES.DOUBLE),
    *(_TYPES.TIME, _TYPES.INTERVAL, _TYPES.UUID, *MOMENTS),
}
"""Types that are cast to as they stand."""
INSTANTS = frozenset(
    ("ts", "bucket", "opened_at", "last_at", "resolved_at", "acknowledged_at", "created_at")
)
"""Columns of the contract that hold an instant."""
WIDTHS = frozenset(("time_bucket", "date_bin"))
LIFTERS = (exp.Filter, exp.Window, exp.WithinGroup)


def bind(tree: exp.Query, parameters: list[Parameter]) -> exp.Query:
    """A copy with the parameters' values in their places."""
    return put(tree, [_value(value) for value in parameters])


def put(tree: exp.Query, values: list[exp.Expr]) -> exp.Query:
    """A copy with these for `$1`, `$2` …"""
    made = tree.copy()
    for node in list(made.find_all(exp.Parameter)):
        node.replace(values[int(str(node.this)) - 1].copy())
    return made


def constants(tree: exp.Query) -> list[exp.Cast]:
    """The constants of time in a bound tree, made casts where they stand bare."""
    for node in list(tree.find_all(exp.Literal)):
        if node.is_string and _is_bare_time(node):
            is_width = isinstance(node.parent, exp.Anonymous)
            node.replace(cast(node.copy(), "interval" if is_width else "timestamptz"))
    return [
        node
        for node in tree.find_all(exp.Cast)
        if text_of(node.this) is not None
        and (node.to.this in MOMENTS or node.to.this == _TYPES.INTERVAL)
    ]


def span(months: int, days: int, microseconds: int) -> exp.Expr:
    """An interval of these parts, for DuckDB."""
    text = f"{months} months {days} days {microseconds} microseconds"
    return cast(exp.Literal.string(text), "interval")


def translate(tree: exp.Query, now: datetime) -> str:
    """The text for DuckDB; the tree is used up. Raises Untranslatable."""
    holder = exp.Subquery(this=tree)
    # children before their parents
    for node in reversed(list(tree.walk(bfs=True))):
        made = _converted(node, now)
        if made is not node:
            node.replace(made)
    for node in list(holder.find_all(exp.Anonymous)):
        if node.this in WRAPPED:
            _wrap(node)
    return str(holder.this.sql(dialect=Archive, identify=True, comments=False))


def _value(value: Parameter) -> exp.Expr:
    if value is None:
        return exp.Null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, int):
        return _number(value)
    if isinstance(value, float):
        return cast(exp.Literal.string(repr(value)), "double")
    return exp.Literal.string(value)


def _number(value: int) -> exp.Expr:
    literal = exp.Literal.number(abs(value))
    return literal if value >= 0 else exp.Paren(this=exp.Neg(this=literal))


def _is_bare_time(node: exp.Literal) -> bool:
    around = node.parent
    if isinstance(around, exp.Anonymous):
        is_first = bool(around.expressions) and around.expressions[0] is node
        return is_first and str(around.this).lower() in WIDTHS
    if isinstance(around, exp.EQ | exp.NEQ | exp.GT | exp.GTE | exp.LT | exp.LTE):
        other = around.expression if around.this is node else around.this
        return isinstance(other, exp.Column) and other.name in INSTANTS
    if isinstance(around, exp.Between):
        return isinstance(around.this, exp.Column) and around.this.name in INSTANTS
    return False


def _converted(node: exp.Expr, now: datetime) -> exp.Expr:
    if isinstance(node, exp.Anonymous):
        return _call(node, now)
    if isinstance(node, exp.CurrentDate | exp.CurrentTimestamp | exp.Localtimestamp):
        return _now(node, now)
    convert = CONVERTED.get(type(node))
    if convert is not None:
        return convert(node)
    if isinstance(node, REFUSED):
        raise Untranslatable(type(node).__name__.upper())
    return node


def _now(node: exp.Expr, now: datetime) -> exp.Expr:
    moment = now.astimezone(UTC)
    if isinstance(node, exp.CurrentDate):
        return cast(exp.Literal.string(moment.date().isoformat()), "date")
    if isinstance(node, exp.Localtimestamp):
        return cast(exp.Literal.string(moment.replace(tzinfo=None).isoformat()), "timestamp")
    return cast(exp.Literal.string(moment.isoformat()), "timestamptz")


def _call(node: exp.Anonymous, now: datetime) -> exp.Expr:
    name = str(node.this).lower()
    given = list(node.expressions)
    if isinstance(node.parent, exp.Table):
        if name != "generate_series":
            raise Untranslatable(f"{name}() in FROM")
        return node
    if name in NOW and not given:
        return _now(node, now)
    if name in SAME or name in WRAPPED:
        return call(name, *given)
    make = FUNCTIONS.get(name)
    made = make(given) if make is not None else None
    if made is None:
        raise Untranslatable(f"{name}()" if make is None else f"this form of {name}()")
    return made


def _wrap(node: exp.Expr) -> None:
    """Around an aggregate and whatever belongs to it."""
    top = node
    while isinstance(top.parent, LIFTERS) and top.parent.this is top:
        top = top.parent
    around = call("hw_number")
    top.replace(around)
    around.set("expressions", [top])


def _extract(node: exp.Expr) -> exp.Expr:
    field = str(node.this.name)
    made = part(field, node.expression)
    if made is None:
        raise Untranslatable(f"extract({field.lower()} from …)")
    return made


def _cast(node: exp.Expr) -> exp.Expr:
    assert isinstance(node, exp.Cast)
    kind = node.to.this
    sizes = node.to.expressions
    if kind in PLAIN and not sizes:
        return node
    if kind in (_TYPES.TEXT, _TYPES.VARCHAR) and not sizes:
        return node if text_of(node.this) is not None else call("hw_text", node.this)
    if kind == _TYPES.DECIMAL:
        if not sizes:
            return cast(node.this, "double")
        # by way of the digits that are shown
        return exp.Cast(this=cast(node.this, "varchar"), to=node.to)
    if kind == _TYPES.ARRAY and isinstance(node.this, exp.Array):
        return node
    raise Untranslatable(f"a cast to {node.to.sql(dialect='postgres').lower()}")


def _like(node: exp.Expr) -> exp.Expr:
    if isinstance(node.parent, exp.Escape):
        return node
    pattern = text_of(node.expression)
    if pattern is not None and "\\" not in pattern:
        return node
    holder = exp.Escape(expression=exp.Literal.string("\\"))
    holder.set("this", node.copy())
    return holder


def _joined(node: exp.Expr) -> exp.Expr:
    sides = [
        side if text_of(side) is not None else call("hw_text", side)
        for side in (node.this, node.expression)
    ]
    return exp.DPipe(this=sides[0], expression=sides[1])


def _divided(node: exp.Expr) -> exp.Expr:
    return type(node)(this=node.this, expression=call("hw_divisor", node.expression))


def _substring(node: exp.Expr) -> exp.Expr:
    parts = [node.args.get(key) for key in ("this", "start", "length")]
    if parts[1] is None:
        raise Untranslatable("this form of substring()")
    return call("substr", *(one for one in parts if one is not None))


def _position(node: exp.Expr) -> exp.Expr:
    return call("strpos", node.this, node.args["substr"])


def _named(node: exp.Expr) -> exp.Expr:
    """A call in FROM has one column, by the name of its alias."""
    if isinstance(node, exp.Table) and not isinstance(node.this, exp.Anonymous):
        return node
    alias = node.args.get("alias")
    if alias is not None and alias.this is not None and not alias.args.get("columns"):
        columns = [alias.this.copy()]
        if node.args.get("offset") or node.args.get("ordinality"):
            columns.append(exp.to_identifier("ordinality", True))
        alias.set("columns", columns)
    return node


def _limited(node: exp.Expr) -> exp.Expr:
    options = node.args.get("limit_options")
    if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
        raise Untranslatable("FETCH with these options")
    return node


def _listed(node: exp.Expr) -> exp.Expr:
    """`select from …` has rows without columns there."""
    if not node.expressions:
        node.set("expressions", [exp.Literal.number(1)])
    return node


def _xor(node: exp.Expr) -> exp.Expr:
    return call("xor", node.this, node.expression)


def _pattern(node: exp.Expr) -> exp.Expr:
    return regexp(node.this, node.expression, is_folded=isinstance(node, exp.RegexpILike))


CONVERTED: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.Select: _listed,
    exp.Extract: _extract,
    exp.Cast: _cast,
    exp.Like: _like,
    exp.ILike: _like,
    exp.DPipe: _joined,
    exp.Div: _divided,
    exp.Mod: _divided,
    exp.Substring: _substring,
    exp.StrPosition: _position,
    exp.Table: _named,
    exp.Unnest: _named,
    exp.Fetch: _limited,
    exp.Limit: _limited,
    exp.BitwiseXor: _xor,
    exp.RegexpLike: _pattern,
    exp.RegexpILike: _pattern,
}
REFUSED = (
    *(exp.SimilarTo, exp.Overlaps, exp.Overlay, exp.Bracket, exp.Slice, exp.Kwarg),
    *(exp.CurrentTime, exp.Localtime),
)
