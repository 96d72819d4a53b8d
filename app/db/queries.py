"""Named statements from `sql/queries/<topic>.sql`.

A statement begins with a line `-- name: alerts_open` and ends where the next begins. A wrapper in
Python has the same name; a contract test prepares each against a real schema.
"""

import re
from functools import cache
from typing import LiteralString, cast

from app.paths import QUERIES

NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


@cache
def queries(topic: str) -> dict[str, LiteralString]:
    """All statements of a topic by name, without a `;` at the end, so that they can stand beside others.

    Raises ValueError for a duplicate name.
    """
    text = (QUERIES / f"{topic}.sql").read_text()
    parts = NAME.split(text)[1:]
    found: dict[str, LiteralString] = {}
    for name, statement in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise ValueError(f"sql/queries/{topic}.sql: {name} stands there twice")
        # the text is the project's own, never a user's
        found[name] = cast("LiteralString", statement.strip().rstrip("; \n"))
    return found
