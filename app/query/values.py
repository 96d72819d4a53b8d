"""DuckDB's values as PostgreSQL would have given them, by the type that PostgreSQL names."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.errors import QueryRefused
from app.query.duckdb_functions import Untranslatable

FARTHEST = (datetime.max, datetime.min, date.max, date.min)
"""What DuckDB gives for infinity."""


def converters(kinds: list[str]) -> list[Callable[[Any], Any]]:
    """One a column. Raises Untranslatable for a type that DuckDB has no equal of."""
    return [_converter(kind) for kind in kinds]


def _converter(kind: str) -> Callable[[Any], Any]:
    if kind.endswith("[]"):
        item = _converter(kind[:-2])
        return lambda value: None if value is None else [item(one) for one in value]
    convert = CONVERT.get(kind.partition("(")[0])
    if convert is None:
        raise Untranslatable(f"a column of type {kind}")
    return lambda value: None if value is None else convert(value)


def _is(*types: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if not isinstance(value, types):
            raise Untranslatable(f"a value of {type(value).__name__} for {types[0].__name__}")
        return value

    return convert


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value % 1:
        raise Untranslatable(f"a value of {type(value).__name__} for a whole number")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Untranslatable(f"a value of {type(value).__name__} for a number")
    return float(value)


def _numeric(value: Any) -> Decimal:
    if isinstance(value, float):
        return Decimal(int(value)) if value.is_integer() else Decimal(repr(value))
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Untranslatable(f"a value of {type(value).__name__} for numeric")
    return Decimal(value)


def _moment(*types: type) -> Callable[[Any], Any]:
    check = _is(*types)

    def convert(value: Any) -> Any:
        found = check(value)
        plain = found.replace(tzinfo=None) if isinstance(found, datetime) else found
        if plain in FARTHEST:
            raise QueryRefused(
                "sql: a value can't be shown, such as a time outside of the years 1 to 9999; "
                "cast it to text."
            )
        return found

    return convert


def _day(value: Any) -> date:
    found = _moment(date)(value)
    # midnight, where DuckDB makes a timestamp of date arithmetic
    return found.date() if isinstance(found, datetime) else found


CONVERT: dict[str, Callable[[Any], Any]] = {
    "bool": _is(bool),
    "int2": _whole,
    "int4": _whole,
    "int8": _whole,
    "float4": _float,
    "float8": _float,
    "numeric": _numeric,
    "text": _is(str),
    "varchar": _is(str),
    "date": _day,
    "time": _is(time),
    "timestamp": _moment(datetime),
    "timestamptz": _moment(datetime),
    "interval": _is(timedelta),
    "uuid": _is(UUID),
}
