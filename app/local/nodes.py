"""What makes a database on several servers one: the extensions on each, and the list of nodes.

Plain functions on superuser connections, one a node, all to databases of one name: the local
runtime, `headwater cluster` and the tests use the same. All of it is idempotent, and safe after a
death in the middle. A worker is known by the group that Citus gave it, which it remembers itself,
so one that came back on another port is found again.
"""

import time
from collections.abc import Sequence

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from app.errors import CommandError
from app.local.credentials import HOST

Connection = psycopg.Connection[TupleRow]

EXTENSIONS = ("citus", "timescaledb")  # in this order
SYNC_SECONDS = 60.0


def make_extensions(connection: Connection) -> None:
    """Create what is missing of the two, as a local matter: every node is told by itself."""
    connection.execute("set citus.enable_ddl_propagation = off")
    rows = connection.execute("select extname from pg_catalog.pg_extension").fetchall()
    for name in EXTENSIONS:
        if (name,) not in rows:
            connection.execute(f"create extension {name}")
    connection.execute("reset citus.enable_ddl_propagation")


def join(coordinator: Connection, workers: Sequence[Connection]) -> None:
    """Tell the coordinator where it is itself and where its workers are; wait until all know."""
    if not _is_placed(coordinator, coordinator):
        _call(coordinator, "citus_set_coordinator_host", HOST, coordinator.info.port)
    new = [worker for worker in workers if not _is_placed(coordinator, worker)]
    _wait_synced(coordinator, workers)
    for worker in new:
        _forget_unfinished(worker)
        _call(coordinator, "citus_add_node", HOST, worker.info.port)
    _wait_synced(coordinator, workers)


def _is_placed(coordinator: Connection, node: Connection) -> bool:
    """Whether the coordinator has the node in its list; if so, its port there is right now."""
    group = _value(node, "select groupid from pg_catalog.pg_dist_local_group")
    if node is not coordinator and not group:  # nobody's
        return False
    known = coordinator.execute(
        "select nodeid, nodename, nodeport, isactive from pg_catalog.pg_dist_node"
        " where groupid = %s",
        [group],
    ).fetchone()
    if known is None:
        return False
    number, name, port, is_active = known
    place = (HOST, node.info.port)
    if (name, port) != place:  # told to the others by the maintenance daemon
        _call(coordinator, "citus_update_node", number, *place)
    if not is_active:
        _call(coordinator, "citus_activate_node", *place)
    return True


def _wait_synced(coordinator: Connection, workers: Sequence[Connection]) -> None:
    waiting = (
        "select exists (select from pg_catalog.pg_dist_node"
        " where hasmetadata and not metadatasynced and nodeport = any(%s))"
    )
    ports = [worker.info.port for worker in workers]
    deadline = time.monotonic() + SYNC_SECONDS
    while _value(coordinator, waiting, ports):
        if time.monotonic() > deadline:
            raise CommandError("the workers don't learn of each other: see the coordinator's log")
        time.sleep(0.1)


def _forget_unfinished(worker: Connection) -> None:
    """Roll back what an earlier attempt to add this worker left prepared.

    The coordinator has no such node, so that attempt was not committed, and no recovery of its
    would ever visit the worker.
    """
    rows = worker.execute(
        "select gid from pg_catalog.pg_prepared_xacts"
        " where database = pg_catalog.current_database() and gid like 'citus\\_%'"
    ).fetchall()
    for (gid,) in rows:
        worker.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))


def _call(coordinator: Connection, function: str, *arguments: object) -> None:
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(arguments))
    coordinator.execute(
        sql.SQL("select pg_catalog.{}({})").format(sql.Identifier(function), marks), arguments
    )


def _value(connection: Connection, query: str, *values: object) -> object:
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None
