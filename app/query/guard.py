"""Whether a text is one SELECT over the contract; if so, its tree.

`check` refuses whatever app/query/words.py does not name: the kind of statement, every node of the
tree, every table (names.py), function and type (functions.py). scope.py puts the caller's rows in the
place of each table, `render` writes the tree as text again, with every name in quotes, and looks at
that text word by word. Only what `render` returns is ever executed; what a person wrote never is. The
database's own wall stands behind all this (sql/analytics/tenant_views.sql): it holds even if everything
here fails.
"""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from app.errors import QueryRefused
from app.query import functions, names
from app.query.dialect import Contract
from app.query.lexical import LONGEST, LexicalError, Token, tokens, without_comments
from app.query.names import folded
from app.query.words import (
    BARE_FUNCTIONS,
    FUNCTIONS,
    NODES,
    PAREN_KEYWORDS,
    QUERIES,
    REWORDED,
    WORDS,
)

CHECKS = names.CHECKS | functions.CHECKS


def check(text: str, parameters: int = 0) -> exp.Query:
    """The tree of one SELECT over the contract. Raises QueryRefused with a reason and a position."""
    tree = _parse(text)
    for node in tree.walk():
        reason = _objection(node, parameters)
        if reason is not None:
            raise refused(reason, text, _offset(node))
    return _folded(tree, text)


def outline(text: str) -> exp.Query:
    """The tree of one SELECT, whatever it is made of: to be looked at, never to be executed."""
    return _folded(_parse(text), text)


def _folded(tree: exp.Query, text: str) -> exp.Query:
    """With every name as the server reads it. Raises QueryRefused where the parser read another text."""
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted"):
            node.set("this", folded(node.this))
            node.set("quoted", True)
    if _content(text) != _content(_written(tree)):
        raise refused("this can't be read unmistakably; write it in a simpler form")
    return tree


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
            value = value[1:-1].replace('""', '"') if is_quoted else folded(value)
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
