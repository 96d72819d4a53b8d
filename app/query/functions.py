"""Functions, types and parameters in people's SQL: those that the allow-lists name.

Each check tells why a node is refused, or None.
"""

from collections.abc import Callable

from sqlglot import exp

from app.query.dialect import Contract
from app.query.names import folded
from app.query.words import FUNCTIONS, LARGEST_TYPE_PARAMETER, TYPES


def _anonymous(node: exp.Expr, _: int) -> str | None:
    name = node.this
    if not isinstance(name, str):
        return "write a function's name without quotes"
    if folded(name) not in FUNCTIONS:
        return f"the function {name[:60]} is not among those allowed"
    return None


def _data_type(node: exp.Expr, _: int) -> str | None:
    if node.this not in TYPES:
        name = node.sql(dialect=Contract)
        return f"the type {name[:60]} is not among those allowed"
    return None


def _cast(node: exp.Expr, _: int) -> str | None:
    odd = [key for key in ("format", "safe", "action", "default") if node.args.get(key)]
    if odd or not isinstance(node.args.get("to"), exp.DataType):
        return "this type is not among those allowed"
    return None


def _type_parameter(node: exp.Expr, _: int) -> str | None:
    size = node.this
    if not (isinstance(size, exp.Literal) and size.this.isdecimal()):
        return "a type's length is a number"
    if int(size.this) > LARGEST_TYPE_PARAMETER:
        return f"a type's length is at most {LARGEST_TYPE_PARAMETER}"
    return None


def _parameter(node: exp.Expr, parameters: int) -> str | None:
    number = node.this
    if not (isinstance(number, exp.Literal) and number.this.isdecimal()):
        return "parameters are written $1, $2"
    if not 1 <= int(number.this) <= parameters:
        return f"there is no parameter ${number.this}; params has {parameters}"
    return None


CHECKS: dict[type[exp.Expr], Callable[[exp.Expr, int], str | None]] = {
    exp.Anonymous: _anonymous,
    exp.DataType: _data_type,
    exp.Cast: _cast,
    exp.DataTypeParam: _type_parameter,
    exp.Parameter: _parameter,
}
