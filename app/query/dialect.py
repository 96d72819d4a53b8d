"""sqlglot's PostgreSQL, told to change nothing.

A transpiler rewrites what it knows (`date_part` becomes `extract`, `max_by` `arg_max`); here every
function keeps the name it was called by, so what is executed is what was written. Only forms that are
no calls (`extract(x from y)`, `cast(x as y)`) keep their parsers.
"""

import logging
from typing import Any

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.postgres import Postgres
from sqlglot.tokenizer_core import TokenType

# it warns of statements that it does not know; they are refused, and no news
logging.getLogger("sqlglot").setLevel(logging.ERROR)

KEPT = ("CAST", "EXTRACT", "OVERLAY", "POSITION", "SUBSTRING", "TRIM")


class Contract(Postgres):
    """The dialect of people's SQL."""

    class Generator(Postgres.Generator):  # type: ignore[misc,valid-type]
        """Several arguments after DISTINCT stay as they are."""

        MULTI_ARG_DISTINCT = True

    class Parser(Postgres.Parser):  # type: ignore[misc,valid-type]
        """No function is special."""

        FUNCTIONS: dict[str, Any] = {}  # noqa: RUF012 - as in the base class
        FUNCTION_PARSERS = {name: Postgres.Parser.FUNCTION_PARSERS[name] for name in KEPT}  # noqa: RUF012
        NO_PAREN_FUNCTION_PARSERS = {  # noqa: RUF012
            name: Postgres.Parser.NO_PAREN_FUNCTION_PARSERS[name] for name in ("ANY", "CASE")
        }

        def _parse_interval(self, *args: Any, **kwargs: Any) -> Any:
            """`interval '1 day 2:00'` as it stands; the base class would lose the second half."""
            index = self._index
            if not self._match(TokenType.INTERVAL):
                return None
            if not self._match(TokenType.STRING):
                self._retreat(index)
                return None
            literal = exp.Literal.string(self._prev.text)
            if self._curr and self._curr.text.lower() in (
                *("year", "month", "day", "hour", "minute", "second", "week"),
            ):
                self.raise_error("write the unit inside of the quotes: interval '1 day'")
            return exp.Cast(this=literal, to=exp.DataType.build("interval", dialect="postgres"))


class Archive(DuckDB):
    """The dialect of the archive's engine, to write."""

    class Generator(DuckDB.Generator):  # type: ignore[misc,valid-type]
        """WITHIN GROUP stays where it is."""

        def withingroup_sql(self, expression: exp.WithinGroup) -> str:
            """As the standard has it."""
            return f"{self.sql(expression, 'this')} WITHIN GROUP ({self.sql(expression, 'expression')})"
