"""Cuts an SQL text into statements, as psql does, and knows the line each one starts on.

Quotes, dollar quotes, nested comments, parentheses (rules) and `begin atomic … end` bodies are
respected; nothing else of the grammar is known. A text that ends inside a quote, comment or body
is given back as one last statement, so that the server names the error.
"""

import re

import msgspec

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<string>(?:[uU]&|[bBxXnN])?'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


class Statement(msgspec.Struct, frozen=True):
    """One statement without its semicolon; `line` counts from 1 in the file."""

    text: str
    line: int
    words: tuple[str, ...]
    """Keywords and plain names in lower case, quoted names unquoted, in order of appearance."""


def split(text: str) -> list[Statement]:
    """Every statement of the text, in order; comments before a statement are left out."""
    found: list[Statement] = []
    start: int | None = None
    words: list[str] = []
    parens = body_depth = position = 0

    def close(end: int) -> None:
        nonlocal start, words, parens, body_depth
        if start is not None:
            line = text.count("\n", 0, start) + 1
            found.append(Statement(text[start:end].rstrip(), line, tuple(words)))
        start, words, parens, body_depth = None, [], 0, 0

    while position < len(text):
        token = _TOKEN.match(text, position)
        assert token is not None  # the last alternative takes any character
        kind, value = token.lastgroup, token.group()
        here, position = position, token.end()
        if kind == "block":
            position = _end_of_comment(text, position)
        if kind in ("space", "comment", "block"):
            continue
        if value == ";" and parens == 0 and body_depth == 0:
            close(here)
            continue
        if start is None:
            start = here
        if token.group("dollar") is not None:
            end = text.find(value, position)
            position = len(text) if end < 0 else end + len(value)
        elif kind == "word":
            words.append(value.lower())
            body_depth += _body_change(words, body_depth)
        elif kind == "quoted":
            words.append(value.strip('"').replace('""', '"'))
        elif value == "(":
            parens += 1
        elif value == ")":
            parens = max(parens - 1, 0)
    close(len(text))
    return found


def _end_of_comment(text: str, position: int) -> int:
    depth = 1
    for edge in _BLOCK_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def _body_change(words: list[str], depth: int) -> int:
    """How the last word changes the depth of an SQL-standard routine body."""
    head = [word for word in words[:4] if word not in ("or", "replace")]
    if head[:1] != ["create"] or not {"function", "procedure"} & set(head[1:2]):
        return 0
    if words[-1] == "begin" or (words[-1] == "case" and depth):
        return 1
    return -1 if words[-1] == "end" and depth else 0
