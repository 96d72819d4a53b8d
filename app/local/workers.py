"""The workers of a runtime: which there are, how they log in on each other and are one database."""

import contextlib
from collections.abc import Sequence

import psycopg

from app.errors import CommandError
from app.local import nodes
from app.local.credentials import WORKER, Credentials, worker_number
from app.local.node import Node
from app.local.roles import connect

MOST_WORKERS = 32


def names(present: list[str], wanted: int | None, *, is_made: bool) -> list[str]:
    """Those present and as many new ones as were asked for; `is_made`: there is a coordinator."""
    if wanted is None:
        return present
    if wanted < len(present):
        raise CommandError(
            f"this runtime has {len(present)} workers, not {wanted}: move the shards of one away with "
            "`headwater cluster drain-worker`, then run this again, everything being up"
        )
    if not present and is_made:
        raise CommandError(
            "this database was made without workers: "
            "start anew with `headwater dev reset`, then `headwater dev up --workers`"
        )
    number = max(map(worker_number, present), default=0)
    return present + [f"{WORKER}{number + n}" for n in range(1, wanted - len(present) + 1)]


def write_passfiles(everything: Sequence[Node], credentials: Credentials) -> None:
    """Let each node log in on each."""
    if len(everything) > 1:
        logins = [
            (node.port, role, password)
            for node in everything
            for role, password in credentials.passwords.items()
        ]
        for node in everything:
            node.cluster.write_passfile(logins)


def join(everything: Sequence[Node]) -> None:
    """Make one database of those nodes that run, unless the coordinator, the first, is down."""
    if len(everything) == 1 or everything[0].pid is None:
        return
    with contextlib.ExitStack() as stack:
        coordinator, *workers = (
            stack.enter_context(connect(node.url())) for node in everything if node.pid
        )
        for connection in (coordinator, *workers):
            nodes.make_extensions(connection)
        nodes.join(coordinator, workers)


def drained(everything: Sequence[Node]) -> list[Node]:
    """Workers that the coordinator, which must be up to tell, does not have in its list any more."""
    coordinator, *workers = everything
    if coordinator.pid is None:
        return []
    try:
        with connect(coordinator.url()) as connection:
            rows = connection.execute("select nodeport from pg_catalog.pg_dist_node").fetchall()
    except psycopg.Error:  # it never came so far as to have a list
        return []
    return [node for node in workers if (node.port,) not in rows] if rows else []
