"""Which statements must be looked at: those that name the view of readings.

All others pass unread. A name within a text or a comment names nothing, unless the statement runs texts.
A SELECT may be wrapped in COPY or DECLARE.
"""

import re
from collections.abc import Iterator

import msgspec

from app.query.lexical import LexicalError, block_end
from app.query.sources import READING

MENTION = re.compile(rf"""(?<![\w$]){READING}(?![\w$])|(?<!\w)u&\"""", re.IGNORECASE)
"""The name, or a quoted name with escapes, which may be any."""
RUNNER = re.compile(r"(?<!\w)(do|\w+_to_xml\w*|ts_stat)(?![\w$])", re.IGNORECASE)
"""What runs SQL that it is given as a text."""
PLAN = re.compile(r"\s*explain(?!\w)", re.IGNORECASE)
WRAPPED = re.compile(
    r"""
      \s* copy \s* \( (?P<copied> .*) \) \s* to \s+ stdout (?!\w) .*
    | \s* declare \s+ \S+ \s+ [a-z\s]* cursor \s+ (?: with(?:out)? \s+ hold \s+ )? for \s+ (?P<held> .*)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_PIECE = re.compile(
    r"""
      --[^\r\n]*
    | (?P<block> /\*)
    | (?<![\w$]) (?P<escaped> e'(?:[^'\\]|\\.|'')*')
    | '[^']*(?:''[^']*)*'
    | (?<![\w$]) (?P<dollar> \$(?:[^\W\d]\w*)?\$) (?P<within> .*?) (?P=dollar)
    | (?P<name> "[^"]*(?:""[^"]*)*")
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_GOES_ON = re.compile(r"(?:\s|--[^\r\n]*)*'")


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that may read readings."""

    text: str
    """The SELECT in it."""
    is_several: bool = False
    """There are others beside it, which the server takes in one message only as they stand."""
    objection: str | None = None
    """Why it can't be answered once archived readings are in it; None: it can."""


def looked_at(raw: bytes) -> Statement | None:
    """The statement in it that must be looked at; None: it passes unread."""
    text = raw.decode("utf-8", "surrogateescape")
    if MENTION.search(text) is None:
        return None
    bare = _outside(text)
    if MENTION.search(bare) is None:
        if RUNNER.search(bare) is None:
            return None
        return Statement(text="", objection="SQL in a text is not looked into")
    if PLAN.match(bare):
        return None
    wrapped = WRAPPED.fullmatch(text)
    if wrapped is None:
        return Statement(text=text, is_several=";" in bare.rstrip("; \t\r\n\f"))
    if wrapped["copied"] is not None:
        said = "COPY reads the database only; ask the SELECT itself, in psql with --csv"
        return Statement(text=wrapped["copied"], objection=said)
    said = "a cursor reads the database only; ask the SELECT itself, its rows are streamed"
    return Statement(text=wrapped["held"], objection=said)


def spelled(text: str) -> str:
    """The same with its texts in plain quotes, as the parser knows them; of the same length, or longer.

    What has escapes by number, or goes on in a further text, stays as it is.
    """
    parts: list[str] = []
    at = 0
    for part, found in _pieces(text):
        at += len(part)
        value = None
        if found is not None and found["dollar"]:
            value = found["within"]
        elif found is not None and found["escaped"] and not _GOES_ON.match(text, at):
            value = _unescaped(part[2:-1])
        if value is not None:
            value = value.replace("'", "''")
            part = f"'{value}'".rjust(len(part))  # noqa: PLW2901
        parts.append(part)
    return "".join(parts)


def _unescaped(text: str) -> str | None:
    """What the escapes mean; None: some are numbers."""
    if any(found[1] and found[1] in "01234567xuU" for found in _ESCAPE.finditer(text)):
        return None
    return _ESCAPE.sub(lambda found: _LETTERS.get(found[1], found[1]) if found[1] else "'", text)


def _outside(text: str) -> str:
    """What is neither text nor comment."""
    return "".join(part if found is None else found["name"] or " " for part, found in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """All of it, in parts; with what it is, where it is a text, a comment or a quoted name."""
    at = 0
    while found := _PIECE.search(text, at):
        end = found.end()
        if found["block"] is not None:
            try:
                end = block_end(text, found.start())
            except LexicalError:
                break
        yield text[at : found.start()], None
        yield text[found.start() : end], found
        at = end
    yield text[at:], None
