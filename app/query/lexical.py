"""PostgreSQL's own lexical rules, for the part of them that people's SQL needs.

A second opinion beside the parser's: what a person wrote is cut up by these rules before it is parsed,
and what will be executed is cut up once more after it was written anew. A text that the server might
read differently from the parser (other quotes, odd escapes, unknown operators) has no reading here and
is refused.
"""

import re
from collections.abc import Iterator

import msgspec

from app.query.words import OPERATORS

LONGEST = 20_000

TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f]+)
    | (?P<comment>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<text>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")+")
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<parameter>\$\d+)
    | (?P<word>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)
    | (?P<cast>::)
    | (?P<mark>[()\[\],;.:])
    | (?P<operator>[-+*/<>=~!@#%^&|`?]+)
    """,
    re.VERBOSE,
)
WORD_BEGIN = re.compile(r"[A-Za-z0-9_$\u0080-\U0010ffff]")
# an operator that has one of these may end in + or -
ODD = frozenset("~!@#%^&|`?")


class LexicalError(Exception):
    """The text has no reading; `at` is the offset."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Token(msgspec.Struct, frozen=True):
    """A piece of the text."""

    kind: str
    text: str
    at: int


def tokens(text: str) -> Iterator[Token]:
    """Every piece, comments and space included. Raises LexicalError."""
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise LexicalError(_reason(text, at), at)
        kind = str(found.lastgroup)
        end = found.end()
        if kind == "block":
            end = block_end(text, at)
            kind = "comment"
        elif kind == "operator":
            end = _operator_end(text, at, end)
        elif kind in ("number", "parameter") and WORD_BEGIN.match(text, end):
            raise LexicalError("a number must end before a letter, digit group or $ begins", at)
        elif kind == "word" and text[end : end + 1] in ("'", '"') and len(found[0]) <= 2:
            raise LexicalError(f"texts with the prefix {found[0][:2]} are not taken", at)
        elif kind == "word" and text[end : end + 2] in ("&'", '&"') and found[0] in ("u", "U"):
            raise LexicalError("texts and names with the prefix U& are not taken", at)
        yield Token(kind, text[at:end], at)
        at = end


def without_comments(text: str) -> str:
    """The text with spaces for comments: every offset stays. Raises LexicalError."""
    parts: list[str] = []
    for token in tokens(text):
        is_comment = token.kind == "comment"
        parts.append(" " * len(token.text) if is_comment else token.text)
    return "".join(parts)


def block_end(text: str, at: int) -> int:
    """Behind a block comment; they nest."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[at:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at + mark.end()
    raise LexicalError("the comment has no end", at)


def _operator_end(text: str, at: int, end: int) -> int:
    run = text[at:end]
    for comment in ("--", "/*"):
        cut = run.find(comment)
        if cut > 0:
            run = run[:cut]
    while len(run) > 1 and run[-1] in "+-" and not ODD & set(run):
        run = run[:-1]
    if run not in OPERATORS:
        raise LexicalError(f"there is no operator {run[:20]} here", at)
    return at + len(run)


def _reason(text: str, at: int) -> str:
    if text[at] in "'\"":
        return "a quote has no end"
    if text[at] == "$":
        return "write texts in single quotes, not between dollar signs"
    return f"the character {text[at]!r} has no meaning here"
