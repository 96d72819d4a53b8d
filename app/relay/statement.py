"""Which statements must be looked at: those that name the view of readings.

All others pass unread. A name within a text or a comment names nothing, unless the statement runs texts.
A SELECT may be wrapped in COPY or DECLARE.
"""

import re

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
    | (?<![\w$]) e'(?:[^'\\]|\\.|'')*'
    | '[^']*(?:''[^']*)*'
    | (?<![\w$]) (?P<dollar> \$(?:[^\W\d]\w*)?\$) .*? (?P=dollar)
    | (?P<name> "[^"]*(?:""[^"]*)*")
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


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


def _outside(text: str) -> str:
    """What is neither text nor comment."""
    parts: list[str] = []
    at = 0
    while found := _PIECE.search(text, at):
        parts += (text[at : found.start()], found["name"] or " ")
        at = found.end()
        if found["block"] is not None:
            try:
                at = block_end(text, found.start())
            except LexicalError:
                break
    return "".join((*parts, text[at:]))
