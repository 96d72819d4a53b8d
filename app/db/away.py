"""A node of a distributed server that is away, as the others tell of it.

The server we talk to is there and says that another is not: the SQLSTATE of a lost connection (class 08)
or of a server that ends or begins (57P0x), sent by a server. What our own connection suffers has none.
A connection that dies under a COPY is an internal error to Citus; only its words tell.
"""

import re

import psycopg

LOST = ("08", "57P0")
UNDER_COPY = (
    "failure on connection marked as essential",
    "server closed the connection unexpectedly",
    "could not receive data from server",
)
_ADDRESS = re.compile(
    r"(?:@|\bnode |\bon |\bto |\bessential: )(\[[0-9a-f:]+\]|[\w.-]+):(\d{1,5})\b", re.IGNORECASE
)


def node_away(exc: BaseException) -> tuple[str, int] | None:
    """Host and port of the node whose absence an error tells; None: it tells of none."""
    if not isinstance(exc, psycopg.Error):
        return None
    diag = exc.diag
    is_lost = (exc.sqlstate or "").startswith(LOST)
    is_under_copy = exc.sqlstate == "XX000" and any(
        words in (diag.message_primary or "") for words in UNDER_COPY
    )
    if not is_lost and not is_under_copy:
        return None
    for text in (diag.message_primary, diag.message_detail, diag.context):
        found = _ADDRESS.search(text or "")
        if found:
            return found[1], int(found[2])
    return None
