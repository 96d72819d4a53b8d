"""What becomes of each allowed function in DuckDB; what is not here is refused there.

SAME are called by the same name and mean the same. FUNCTIONS make another call of the arguments, and
return None where the arguments have a form that has no equal.
"""

from collections.abc import Callable

from sqlglot import exp

_SAME = """
    any_value array_agg avg bit_and bit_or bool_and bool_or count covar_pop covar_samp grouping max
    min mode percentile_cont percentile_disc regr_count stddev stddev_pop stddev_samp string_agg
    var_pop var_samp variance cume_dist dense_rank first_value lag last_value lead nth_value ntile
    percent_rank rank row_number coalesce nullif greatest least abs acos asin atan atan2 cbrt cos
    degrees exp gcd lcm ln log10 pi power radians random sin sinh cosh tanh sqrt tan ascii chr left
    length lower ltrim md5 octet_length replace reverse right rtrim split_part starts_with strpos
    translate upper age isfinite make_date make_timestamp make_timestamptz unnest
"""
SAME = frozenset(_SAME.split())

PARTS = {
    "second": ("microsecond", 1_000_000),
    "milliseconds": ("microsecond", 1_000),
    "microseconds": ("microsecond", 1),
}
"""Fields that have a fraction, or another name."""
FIELDS = frozenset(
    (
        *("century", "day", "decade", "dow", "doy", "epoch", "hour", "isodow", "isoyear"),
        *("millennium", "minute", "month", "quarter", "week", "year"),
    )
)
TRUNCATED = FIELDS - {"dow", "doy", "epoch", "isodow", "isoyear"} | PARTS.keys()

# longest first
_PATTERNS = {
    "YYYY": "%Y",
    "HH24": "%H",
    "HH12": "%I",
    "MM": "%m",
    "DD": "%d",
    "MI": "%M",
    "SS": "%S",
    "US": "%f",
    "MS": "%g",
}


class Untranslatable(Exception):
    """DuckDB has nothing that means the same; the text says of what."""


def call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    """A call of DuckDB's."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def cast(value: exp.Expr, kind: str) -> exp.Cast:
    """To a type of DuckDB's."""
    return exp.Cast(this=value, to=exp.DataType.build(kind, dialect="duckdb"))


def text_of(node: exp.Expr) -> str | None:
    """A literal's text."""
    return str(node.this) if isinstance(node, exp.Literal) and node.is_string else None


def part(field: str, value: exp.Expr) -> exp.Expr | None:
    """extract(field from value), a double as date_part()'s."""
    name = field.lower()
    if name in PARTS:
        source, factor = PARTS[name]
        found = cast(call("datepart", exp.Literal.string(source), value), "double")
        return exp.Paren(this=exp.Div(this=found, expression=exp.Literal.number(factor)))
    if name not in FIELDS:
        return None
    return cast(call("datepart", exp.Literal.string(name), value), "double")


def regexp(value: exp.Expr, pattern: exp.Expr, *, is_folded: bool = False) -> exp.Expr:
    """Whether a pattern is found; the dot means a line's end, too."""
    return call("regexp_matches", value, pattern, exp.Literal.string("is" if is_folded else "s"))


def _renamed(name: str, *counts: int) -> Callable[[list[exp.Expr]], exp.Expr | None]:
    return lambda given: call(name, *given) if len(given) in counts else None


def _double(name: str) -> Callable[[list[exp.Expr]], exp.Expr | None]:
    """A result that is never whole to a division."""
    return lambda given: cast(call(name, *given), "double")


def _first(name: str) -> Callable[[list[exp.Expr]], exp.Expr | None]:
    return lambda given: call(name, *given) if len(given) == 2 else None


def _sum(given: list[exp.Expr]) -> exp.Expr | None:
    if len(given) != 1:
        return None
    (one,) = given
    if isinstance(one, exp.Distinct):
        inner = [call("hw_summand", value) for value in one.expressions]
        return call("sum", exp.Distinct(expressions=inner))
    return None if isinstance(one, exp.Order) else call("sum", call("hw_summand", one))


def _round(given: list[exp.Expr]) -> exp.Expr:
    return call("hw_round" if len(given) == 1 else "hw_round_to", *given)


def _bucket(given: list[exp.Expr]) -> exp.Expr | None:
    return call("time_bucket", *given) if 2 <= len(given) <= 3 else None


def _date_trunc(given: list[exp.Expr]) -> exp.Expr | None:
    field = text_of(given[0]) if len(given) in (2, 3) else None
    if field is None or field.lower() not in TRUNCATED:
        return None
    name = exp.Literal.string(field.lower())
    if len(given) == 2:
        return call("date_trunc", name, given[1])
    zone = given[2]
    return call("timezone", zone.copy(), call("date_trunc", name, call("timezone", zone, given[1])))


def _date_part(given: list[exp.Expr]) -> exp.Expr | None:
    field = text_of(given[0]) if len(given) == 2 else None
    return part(field, given[1]) if field is not None else None


def _to_char(given: list[exp.Expr]) -> exp.Expr | None:
    pattern = text_of(given[1]) if len(given) == 2 else None
    if pattern is None:
        return None
    made = ""
    while pattern:
        for ours, theirs in _PATTERNS.items():
            if pattern.startswith(ours):
                made, pattern = made + theirs, pattern[len(ours) :]
                break
        else:
            if pattern[0] not in "-/:. ,T":
                return None
            made, pattern = made + pattern[0], pattern[1:]
    return call("strftime", given[0], exp.Literal.string(made))


def _regexp_replace(given: list[exp.Expr]) -> exp.Expr | None:
    pattern = text_of(given[1]) if len(given) in (3, 4) else None
    flags = text_of(given[3]) if len(given) == 4 else ""
    # alternatives and short matches: the leftmost is taken here, the longest there
    if pattern is None or "|" in pattern or "?" in pattern or flags is None or set(flags) - {*"gi"}:
        return None
    return call("regexp_replace", *given[:3], exp.Literal.string("s" + flags))


def _texts(name: str) -> Callable[[list[exp.Expr]], exp.Expr | None]:
    return lambda given: call(name, *(call("hw_shown", one) for one in given))


FUNCTIONS: dict[str, Callable[[list[exp.Expr]], exp.Expr | None]] = {
    "sum": _sum,
    "every": _renamed("bool_and", 1),
    "first": _first("arg_min_null"),
    "last": _first("arg_max_null"),
    "ceil": _double("ceil"),
    "ceiling": _double("ceil"),
    "floor": _double("floor"),
    "sign": _double("sign"),
    "trunc": _double("trunc"),
    "round": _round,
    "log": lambda given: call("log10" if len(given) == 1 else "log", *given),
    "mod": lambda given: exp.Paren(
        this=exp.Mod(this=exp.Paren(this=given[0]), expression=call("hw_divisor", given[1]))
    ),
    "width_bucket": _renamed("hw_width_bucket", 4),
    "btrim": _renamed("trim", 1, 2),
    "char_length": _renamed("length", 1),
    "character_length": _renamed("length", 1),
    "concat": _texts("concat"),
    "concat_ws": _texts("concat_ws"),
    "substr": _renamed("substr", 2, 3),
    "regexp_like": lambda given: regexp(*given) if len(given) == 2 else None,
    "regexp_replace": _regexp_replace,
    "date_bin": _renamed("time_bucket", 3),
    "date_part": _date_part,
    "date_trunc": _date_trunc,
    "extract": _date_part,
    "justify_hours": _renamed("hw_justify_hours", 1),
    "time_bucket": _bucket,
    "timezone": _renamed("timezone", 2),
    "to_char": _to_char,
    "to_hex": lambda given: call("lower", call("to_hex", *given)),
    "to_timestamp": _renamed("to_timestamp", 1),
}
WRAPPED = frozenset(
    (
        *("corr", "regr_avgx", "regr_avgy", "regr_intercept", "regr_r2", "regr_slope"),
        *("regr_sxx", "regr_sxy", "regr_syy"),
    )
)
"""Aggregates that are not a number where PostgreSQL says null."""
NOW = frozenset(("now", "statement_timestamp", "transaction_timestamp", "clock_timestamp"))
