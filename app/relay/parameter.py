"""Parameters of a bound statement as constants in its text.

The server has said their types and taken the values, so each becomes the constant of that type.
"""

from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import Format
from sqlglot import exp

from app.errors import QueryRefused
from app.relay.row import text_of

_WHOLE = ("int2", "int4", "int8")
_BARE = ("text", "varchar")


def constants(values: list[tuple[bytes | None, bool]], oids: list[int]) -> list[exp.Expr]:
    """One a parameter. Raises QueryRefused."""
    return [
        _constant(number, value, oid, is_binary=is_binary)
        for number, ((value, is_binary), oid) in enumerate(zip(values, oids, strict=True), 1)
    ]


def _constant(number: int, value: bytes | None, oid: int, *, is_binary: bool) -> exp.Expr:
    kind = psycopg.adapters.types.get(oid)
    if kind is None or text_of(kind.oid) is None:
        raise _refused(number, f"type {oid if kind is None else kind.name}")
    is_array = oid == kind.array_oid
    name = f"{kind.name}[]" if is_array else kind.name
    if value is None:
        return _cast(exp.Null(), name)
    form = Format.BINARY if is_binary else Format.TEXT
    try:
        if is_array or is_binary:
            found = Transformer().get_loader(oid, form).load(value)
        else:
            found = value.decode()
        if not is_array:
            return _one(kind.name, found, kind.oid)
        items = [
            _cast(exp.Null(), kind.name) if item is None else _one(kind.name, item, kind.oid)
            for item in found
        ]
    except (ValueError, psycopg.Error) as exc:
        raise _refused(number, str(exc)) from None
    return _cast(exp.Array(expressions=items), name)


def _one(kind: str, value: Any, oid: int) -> exp.Expr:
    """A value, or how it is written."""
    if isinstance(value, list):
        raise ValueError("arrays of arrays are not taken")
    encode = text_of(oid)
    assert encode is not None
    text = value if isinstance(value, str) else encode(value).decode()
    if kind in _WHOLE:
        whole = int(text)
        literal = exp.Literal.number(abs(whole))
        return literal if whole >= 0 else exp.Paren(this=exp.Neg(this=literal))
    if kind == "bool":
        return exp.Boolean(this=text.strip().lower().startswith(("t", "y", "on", "1")))
    literal = exp.Literal.string(text)
    return literal if kind in _BARE else _cast(literal, kind)


def _cast(value: exp.Expr, kind: str) -> exp.Cast:
    return exp.Cast(this=value, to=exp.DataType.build(kind, dialect="postgres"))


def _refused(number: int, reason: str) -> QueryRefused:
    return QueryRefused(
        f"sql: the parameter ${number} is not taken over archived readings: {reason}."
    )
