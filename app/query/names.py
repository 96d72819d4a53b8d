"""Names in people's SQL: which tables, columns, WITH names and identifiers are taken.

Each check tells why a node is refused, or None. A name is read as the server reads it: folded unless it
is quoted, and a table means a name of WITH before it means a view of the contract.
"""

from collections.abc import Callable

from sqlglot import exp

from app.query.words import QUERIES, SCHEMAS, SYSTEM_COLUMNS, TABLE_FUNCTIONS, TABLES

LONGEST_NAME = 63


def folded(name: str) -> str:
    """As the server folds an unquoted name: ASCII letters only."""
    return "".join(c.lower() if c.isascii() else c for c in name)


def views(tree: exp.Query) -> list[exp.Table]:
    """Where a checked tree reads a view of the contract."""
    return [table for table in tree.find_all(exp.Table) if is_view(table)]


def is_view(table: exp.Table) -> bool:
    """Whether a table of a checked tree is a view of the contract; else a name of WITH or a call."""
    if not isinstance(table.this, exp.Identifier):
        return False
    return bool(table.db) or table.name not in visible_ctes(table)


def _identifier(node: exp.Expr, _: int) -> str | None:
    name = str(node.this)
    if len(name.encode()) > LONGEST_NAME:
        return f"a name is longer than {LONGEST_NAME} bytes"
    if folded(name).startswith("pg_"):
        return f"names that begin with pg_ are the system's: {name}"
    if folded(name) in SYSTEM_COLUMNS:
        return f"system columns are not shown: {name}"
    return None


def _column(node: exp.Expr, _: int) -> str | None:
    if node.args.get("db") or node.args.get("catalog"):
        return "name a column as alias.column or column"
    return None


def _table(node: exp.Expr, _: int) -> str | None:
    assert isinstance(node, exp.Table)
    odd = [
        key
        for key, value in node.args.items()
        if value and key not in ("this", "db", "catalog", "alias", "joins", "ordinality")
    ]
    if odd or node.args.get("catalog"):
        return "a table stands here as name, analytics.name or name with an alias"
    if isinstance(node.this, exp.Anonymous):
        name = str(node.this.this)
        if node.db or folded(name) not in TABLE_FUNCTIONS:
            return f"the function {name[:60]} is not taken in FROM"
        return None
    if not isinstance(node.this, exp.Identifier):
        return "only views of the contract and functions stand in FROM"
    schema = node.args.get("db")
    name = _name(node.this)
    if schema is None and name in visible_ctes(node, fold=True):
        return None
    if schema is not None and _name(schema) not in SCHEMAS:
        return f"the schema {_name(schema)[:60]} is not part of the contract; {SCHEMAS[0]} is"
    if name not in TABLES:
        return f"there is no view {name[:60]} here; there are {', '.join(sorted(TABLES))}"
    return None


def _name(identifier: exp.Expr) -> str:
    """As the server reads it."""
    text = str(identifier.this)
    return text if identifier.args.get("quoted") else folded(text)


def _with(node: exp.Expr, _: int) -> str | None:
    if node.args.get("recursive"):
        return "WITH RECURSIVE is not taken; generate_series makes calendars"
    return None


def _cte(node: exp.Expr, _: int) -> str | None:
    odd = [key for key in ("scalar", "key_expressions") if node.args.get(key)]
    if odd or not isinstance(node.this, QUERIES):
        return "WITH holds SELECT only"
    return None


def visible_ctes(node: exp.Expr, *, fold: bool = False) -> set[str]:
    """Names of WITH that a table may mean: those before it in its own list, all of the lists around."""
    found: set[str] = set()
    inside: exp.Expr = node
    around = node.parent
    while around is not None:
        if isinstance(around, exp.With):
            # within the list itself: only what stands before
            for cte in around.expressions:
                if cte is inside:
                    break
                found.add(_cte_name(cte, fold=fold))
            # the query that has the list must not add the later ones
            inside, around = around, around.parent
            if around is not None:
                inside, around = around, around.parent
            continue
        owned = around.args.get("with_")
        if owned is not None:
            found |= {_cte_name(cte, fold=fold) for cte in owned.expressions}
        inside, around = around, around.parent
    return found


def _cte_name(cte: exp.Expr, *, fold: bool) -> str:
    identifier = cte.args["alias"].this
    return _name(identifier) if fold else str(identifier.this)


CHECKS: dict[type[exp.Expr], Callable[[exp.Expr, int], str | None]] = {
    exp.Identifier: _identifier,
    exp.Column: _column,
    exp.Table: _table,
    exp.With: _with,
    exp.CTE: _cte,
}
