"""Whether a text is one SELECT over the contract; if so, its tree.

`check` refuses whatever app/query/words.py does not name: the kind of statement, every node of the
tree, every table, function and type. `rewrite` puts the caller's rows in the place of each table,
`render` writes the tree as text again, with every name in quotes, and looks at that text word by word.
Only what `render` returns is ever executed; what a person wrote never is. The database's own wall
stands behind all this (sql/analytics/tenant_views.sql): it holds even if everything here fails.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from app.errors import QueryRefused
from app.query.dialect import Contract
from app.query.lexical import LONGEST, LexicalError, Token, tokens, without_comments
from app.query.words import (
    BARE_FUNCTIONS,
    FUNCTIONS,
    LARGEST_TYPE_PARAMETER,
    NODES,
    PAREN_KEYWORDS,
    QUERIES,
    REWORDED,
    SCHEMA,
    SYSTEM_COLUMNS,
    TABLE_FUNCTIONS,
    TABLES,
    TYPES,
    WORDS,
)

LONGEST_NAME = 63
VIEWS = "tenant"
"""Schema of the views that show one tenant's rows."""
MOST_IDS = 1_000


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rows: a tenant's, and its sensors where they are few enough to be named one by one."""

    tenant_id: int | None
    """None: every tenant."""
    sensor_ids: list[int] | None = None


def check(text: str, parameters: int = 0) -> exp.Query:
    """The tree of one SELECT over the contract. Raises QueryRefused with a reason and a position."""
    tree = _parse(text)
    for node in tree.walk():
        reason = _objection(node, parameters)
        if reason is not None:
            raise refused(reason, text, _offset(node))
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted"):
            node.set("this", _folded(node.this))
            node.set("quoted", True)
    if _content(text) != _content(_written(tree)):
        raise refused("this can't be read unmistakably; write it in a simpler form")
    return tree


def views(tree: exp.Query) -> set[str]:
    """Views of the contract that a checked tree reads."""
    return {
        table.name
        for table in tree.find_all(exp.Table)
        if table.name in TABLES and (table.db or table.name not in _visible_ctes(table))
    }


def rewrite(tree: exp.Query, scope: Scope) -> exp.Query:
    """A copy with each table of the contract replaced by a sub-select of the scope's rows."""
    holder = exp.Subquery(this=tree.copy())
    for table in list(holder.find_all(exp.Table)):
        if isinstance(table.this, exp.Anonymous):
            _wrap_function(table)
        elif table.db or table.name not in _visible_ctes(table):
            alias = table.args.get("alias")
            rows = exp.Subquery(this=_rows(table.name, scope))
            rows.set("alias", alias or exp.TableAlias(this=exp.to_identifier(table.name, True)))
            rows.set("joins", table.args.get("joins"))
            table.replace(rows)
    for unnest in list(holder.find_all(exp.Unnest)):
        _wrap_function(unnest)
    result = holder.this
    assert isinstance(result, exp.Query)
    return result


def render(tree: exp.Query) -> str:
    """The text to execute. Raises QueryRefused for a word that the allow-lists lack."""
    text = _written(tree)
    _inspect(text)
    try:
        again = sqlglot.parse_one(text, dialect=Contract)
    except (SqlglotError, RecursionError):
        again = None
    if again is None or _written(again) != text:
        raise refused("the statement can't be written unmistakably; write it in a simpler form")
    return text


def refused(reason: str, text: str = "", at: int | None = None) -> QueryRefused:
    """The problem, with line and column where they are known."""
    if at is None:
        return QueryRefused(f"sql: {reason}.")
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return QueryRefused(
        f"sql, line {line}, column {column}: {reason}.", reason=reason, line=line, column=column
    )


def _written(tree: exp.Expr) -> str:
    return tree.sql(dialect=Contract, identify=True, comments=False)


def _content(text: str) -> Counter[str]:
    """Every name, text, number and call in it: what must be the same once it is written anew.

    A parser that drops or invents a part must not change what a query means without a word.
    """
    found: Counter[str] = Counter()
    for token in tokens(text):
        value = token.text
        if token.kind in ("word", "name"):
            is_quoted = token.kind == "name"
            value = value[1:-1].replace('""', '"') if is_quoted else _folded(value)
            if value.lower() in REWORDED:
                continue
        elif token.kind == "number":
            value = str(Decimal(value).normalize())
        elif token.kind not in ("text", "parameter"):
            continue
        found[value] += 1
    return found


def _parse(text: str) -> exp.Query:
    if len(text) > LONGEST:
        raise refused(f"longer than {LONGEST} characters")
    try:
        plain = without_comments(text)
    except LexicalError as exc:
        raise refused(exc.reason, text, exc.at) from None
    try:
        found = [tree for tree in sqlglot.parse(plain, dialect=Contract) if tree is not None]
        count = sum(1 for tree in found for _ in tree.walk())
    except SqlglotError as exc:
        raise _unreadable(exc) from None
    except RecursionError:
        raise refused("nested too deeply") from None
    if len(found) != 1:
        raise refused("one statement is taken at a time" if found else "there is no statement")
    tree = found[0]
    if not isinstance(tree, QUERIES) or count == 0:
        raise refused("only SELECT is taken, of the views of the contract", text, 0)
    return tree


def _unreadable(exc: SqlglotError) -> QueryRefused:
    errors = getattr(exc, "errors", None) or [{}]
    first = errors[0]
    line, column = first.get("line"), first.get("col")
    reason = str(first.get("description") or "can't be read as SQL").rstrip(".")
    if line is None:
        return refused(reason[:200])
    return QueryRefused(
        f"sql, line {line}, column {column}: {reason[:200]}.",
        reason=reason[:200],
        line=line,
        column=column,
    )


def _offset(node: exp.Expr) -> int | None:
    """Where a node begins in the text, by the first of its parts that knows."""
    for part in node.walk():
        start = part.meta.get("start")
        if start is not None:
            return int(start)
    return _offset(node.parent) if node.parent is not None else None


def _folded(name: str) -> str:
    """As the server folds an unquoted name: ASCII letters only."""
    return "".join(c.lower() if c.isascii() else c for c in name)


def _objection(node: exp.Expr, parameters: int) -> str | None:
    """Why a node is refused; None: it is not."""
    kind = type(node)
    if kind not in NODES:
        return f"{_describe(node)} is not taken here"
    checker = CHECKS.get(kind)
    return checker(node, parameters) if checker is not None else None


def _describe(node: exp.Expr) -> str:
    names: dict[type[exp.Expr], str] = {
        exp.Lock: "a locking clause",
        exp.Into: "SELECT INTO",
        exp.Dot: "a name with a dot after a call or parenthesis, such as a function's schema,",
        exp.Operator: "OPERATOR()",
        exp.Placeholder: "this placeholder (write $1, $2)",
        exp.ObjectIdentifier: "a cast to an object identifier",
        exp.PseudoType: "a pseudo-type",
    }
    known = names.get(type(node))
    return known if known is not None else type(node).__name__.upper()


def _identifier(node: exp.Expr, _: int) -> str | None:
    name = str(node.this)
    if len(name.encode()) > LONGEST_NAME:
        return f"a name is longer than {LONGEST_NAME} bytes"
    if _folded(name).startswith("pg_"):
        return f"names that begin with pg_ are the system's: {name}"
    if _folded(name) in SYSTEM_COLUMNS:
        return f"system columns are not shown: {name}"
    return None


def _column(node: exp.Expr, _: int) -> str | None:
    if node.args.get("db") or node.args.get("catalog"):
        return "name a column as alias.column or column"
    return None


def _anonymous(node: exp.Expr, _: int) -> str | None:
    name = node.this
    if not isinstance(name, str):
        return "write a function's name without quotes"
    if _folded(name) not in FUNCTIONS:
        return f"the function {name[:60]} is not among those allowed"
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
        if node.db or _folded(name) not in TABLE_FUNCTIONS:
            return f"the function {name[:60]} is not taken in FROM"
        return None
    if not isinstance(node.this, exp.Identifier):
        return "only views of the contract and functions stand in FROM"
    schema = node.args.get("db")
    name = _name(node.this)
    if schema is None and name in _visible_ctes(node, fold=True):
        return None
    if schema is not None and _name(schema) != SCHEMA:
        return f"the schema {_name(schema)[:60]} is not part of the contract; {SCHEMA} is"
    if name not in TABLES:
        return f"there is no view {name[:60]} here; there are {', '.join(sorted(TABLES))}"
    return None


def _name(identifier: exp.Expr) -> str:
    """As the server reads it."""
    text = str(identifier.this)
    return text if identifier.args.get("quoted") else _folded(text)


def _with(node: exp.Expr, _: int) -> str | None:
    if node.args.get("recursive"):
        return "WITH RECURSIVE is not taken; generate_series makes calendars"
    return None


def _cte(node: exp.Expr, _: int) -> str | None:
    odd = [key for key in ("scalar", "key_expressions") if node.args.get(key)]
    if odd or not isinstance(node.this, QUERIES):
        return "WITH holds SELECT only"
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
    exp.Identifier: _identifier,
    exp.Column: _column,
    exp.Anonymous: _anonymous,
    exp.Table: _table,
    exp.With: _with,
    exp.CTE: _cte,
    exp.DataType: _data_type,
    exp.Cast: _cast,
    exp.DataTypeParam: _type_parameter,
    exp.Parameter: _parameter,
}


def _visible_ctes(node: exp.Expr, *, fold: bool = False) -> set[str]:
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


def _rows(view: str, scope: Scope) -> exp.Select:
    """The scope's rows of a view, as a tree."""
    columns = [exp.column(exp.to_identifier(name, True)) for name in TABLES[view]]
    rows = exp.select(*columns).from_(exp.table_(view, db=VIEWS, quoted=True))
    if scope.tenant_id is None or view == "metric":
        return rows
    if "tenant_id" in TABLES[view]:
        return rows.where(_tenant_is(scope.tenant_id))
    mine: exp.Expr
    if scope.sensor_ids is None:
        mine = exp.In(
            this=_quoted("sensor_id"),
            query=exp.Subquery(
                this=exp.select(_quoted("sensor_id"))
                .from_(exp.table_("sensor", db=VIEWS, quoted=True))
                .where(_tenant_is(scope.tenant_id))
            ),
        )
    else:
        # named one by one, so that the plan can use the index, below the views' own filter
        ids = "{" + ",".join(str(int(number)) for number in scope.sensor_ids) + "}"
        array = exp.Cast(
            this=exp.Literal.string(ids), to=exp.DataType.build("bigint[]", dialect="postgres")
        )
        mine = exp.EQ(this=_quoted("sensor_id"), expression=exp.Any(this=exp.Paren(this=array)))
    return rows.where(mine)


def _quoted(column: str) -> exp.Column:
    return exp.column(exp.to_identifier(column, True))


def _tenant_is(tenant_id: int) -> exp.EQ:
    return exp.EQ(this=_quoted("tenant_id"), expression=exp.Literal.number(tenant_id))


def _wrap_function(call: exp.Expr) -> None:
    """A function in FROM becomes a sub-select, so that its alias is a row, never a bare value.

    PostgreSQL takes `g.f` for `f(g)` where g has no column f: with a bare value that would call functions
    that no list has seen.
    """
    within = call.parent if isinstance(call.parent, exp.Lateral) else call
    alias = within.args.get("alias")
    if alias is None:
        name = call.this.this if isinstance(call.this, exp.Anonymous) else "unnest"
        alias = exp.TableAlias(this=exp.to_identifier(_folded(str(name)), True))
    joins = within.args.get("joins")
    inner = call.copy()
    inner.set("alias", alias.copy())
    inner.set("joins", None)
    rows = exp.Subquery(this=exp.select(exp.Star()).from_(inner))
    outer = exp.TableAlias(this=alias.this.copy())
    lateral = exp.Lateral(this=rows, alias=outer)
    lateral.set("joins", joins)
    within.replace(lateral)


def _inspect(text: str) -> None:
    """Every word of what will be executed is known, and every call is allowed."""
    try:
        pieces = [token for token in tokens(text) if token.kind != "space"]
    except LexicalError as exc:
        raise refused(exc.reason) from None
    for token, following in _pairs(pieces):
        if token.kind == "comment" or token.text == ";":
            raise refused("the statement can't be written unmistakably")
        if token.kind != "word":
            continue
        word = token.text.lower()
        if word not in WORDS:
            raise refused(f"the word {token.text[:60]} is not taken here")
        is_call = following == "("
        if is_call and word not in FUNCTIONS | PAREN_KEYWORDS | BARE_FUNCTIONS:
            raise refused(f"the function {token.text[:60]} is not among those allowed")


def _pairs(pieces: list[Token]) -> Iterator[tuple[Token, str]]:
    for index, token in enumerate(pieces):
        yield token, pieces[index + 1].text if index + 1 < len(pieces) else ""
