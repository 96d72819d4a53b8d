"""A shard that takes no writes because it is being moved, or is not where it was, as the server tells.

Whoever writes straight to it meets SQLSTATE HW423 (sql/edition/citus/fence.sql) and, once the old copy is
dropped, an unknown table. A COPY through the coordinator brings the words along, not the SQLSTATE.
"""

import psycopg

SQLSTATE = "HW423"
WORDS = " is moving to another node"
DETAIL = (
    "These sensors' readings are being moved to another server; send again later. If it lasts, "
    "`headwater cluster status` says what to do."
)
GONE = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction)


def is_moving(exc: BaseException) -> bool:
    """Whether it may be written to again, here or elsewhere, once the move is over."""
    if not isinstance(exc, psycopg.Error):
        return False
    under_copy = exc.sqlstate == "XX000" and WORDS in (exc.diag.message_primary or "")
    return exc.sqlstate == SQLSTATE or under_copy


def is_elsewhere(exc: BaseException) -> bool:
    """Whether its place must be looked up before it is written to again."""
    return is_moving(exc) or isinstance(exc, GONE)
