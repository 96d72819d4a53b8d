"""`headwater cluster`: the nodes of a distributed database. Connects with OWNER_DATABASE_URL."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import msgspec

from app.cluster import worker
from app.cluster.away import away
from app.cluster.session import LOCK_WAIT_SECONDS, Cluster, hold
from app.cluster.survey import NodeState, Survey, survey
from app.local.doctor_cli import table
from app.ops.moves import REMEDY
from app.settings import Settings

T = TypeVar("T")
UNWELL = 3


class Address(click.ParamType):  # type: ignore[type-arg]
    """HOST:PORT."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Host and port, an IPv6 address in brackets."""
        host, _, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            self.fail(f"{value!r} is not HOST:PORT, such as db3.example:5432", param, ctx)
        return host, int(port)


wait_option = click.option(
    "--wait",
    default=LOCK_WAIT_SECONDS,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for another command to finish.",
)


@click.group()
def cluster() -> None:
    """Nodes of a distributed database: see, add, empty and even them out."""


@cluster.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(as_json: bool) -> None:
    """Nodes, groups of shards, sizes and moves; exit status 3 unless all is well."""
    found = _run(survey, is_reader=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        click.echo("\n".join(lines(found)))
    if not found.is_well:
        raise click.exceptions.Exit(UNWELL)


@cluster.command("add-worker")
@click.argument("address", type=Address())
@wait_option
def add_worker(address: tuple[str, int], wait: float) -> None:
    """Make the server at ADDRESS (HOST:PORT) a worker; `rebalance` then brings shards to it."""
    host, port = address
    _run(lambda held: worker.add(held, host=host, port=port), wait=wait)


@cluster.command("drain-worker")
@click.argument("address", type=Address())
@wait_option
def drain_worker(address: tuple[str, int], wait: float) -> None:
    """Move everything off the worker at ADDRESS (HOST:PORT), then take it out."""
    host, port = address
    count = _run(lambda held: worker.drain(held, host=host, port=port), moves=True, wait=wait)
    click.echo(f"{count} groups moved")


@cluster.command()
@click.option("--dry-run", is_flag=True, help="Only say which groups would move.")
@wait_option
def rebalance(dry_run: bool, wait: float) -> None:
    """Finish moves that were begun, then even the workers out."""
    if dry_run:
        _run(_say_plan, is_reader=True)
        return
    count = _run(worker.rebalance, moves=True, wait=wait)
    click.echo(f"{count} groups moved" if count else "The workers are even; nothing to move.")


def _run(
    what: Callable[[Cluster], Awaitable[T]],
    *,
    is_reader: bool = False,
    moves: bool = False,
    wait: float = LOCK_WAIT_SECONDS,
) -> T:
    # it would say, too, which sessions are given up with a server that stands still
    logging.getLogger("psycopg").setLevel(logging.ERROR)

    async def run() -> T:
        url = Settings.from_env().owner_database_url
        async with hold(url, click.echo, is_reader=is_reader, moves=moves, lock_wait=wait) as held:
            return await what(held)

    return asyncio.run(run())


async def _say_plan(held: Cluster) -> None:
    found = await survey(held)
    gone = await away(held)
    for member in gone:
        click.echo(f"{member.node}  is away: what lies there stays there")
    for move in found.moves:
        click.echo(f"shards {move.shard_id}  {move.source} -> {move.target}  go on: {move.state}")
    names = {member.number: str(member.node) for member in await held.members()}
    steps = await worker.plan(held, away=[member.number for member in gone])
    for step in steps:
        size = _size(step.size)
        click.echo(f"shards {step.shard_id}  {names[step.source]} -> {names[step.target]}  {size}")
    if not steps and not found.moves:
        click.echo("The workers are even; nothing to move.")


def lines(found: Survey) -> list[str]:
    """The survey as plain text."""
    text = table(
        [
            (
                node.node,
                node.role,
                "up" if node.is_up else "down",
                str(node.groups) if node.role == "worker" else None,
                _size(node.size_bytes) if node.role == "worker" else None,
                _state(node),
            )
            for node in found.nodes
        ],
        ("node", "role", "server", "groups", "readings", "state"),
    )
    text += ["", f"skew {found.skew:.2f} (largest / mean)" if found.skew else "skew -", ""]
    text += table(
        [(str(one.shard_id), one.node, _size(one.size_bytes)) for one in found.groups],
        ("group", "node", "readings"),
    )
    for move in found.moves:
        text.append(
            f"MOVE  shards {move.shard_id}: {move.source} -> {move.target}, {move.state}"
            + (f" ({move.problem})" if move.problem else "")
        )
        text.append("    a command is at it" if move.is_running else f"    -> {REMEDY}")
    for node in found.nodes:
        if node.is_aside:
            text.append(
                f"ASIDE  {node.node} was away while others changed; what lies there stays there"
            )
            text.append(
                "    -> once it is back `headwater jobs` or `rebalance` tells it what it missed"
            )
        text += [f"DANGER  {node.node}: {danger}" for danger in node.dangers]
        if node.missing:
            text.append(f"INCOMPLETE  {', '.join(node.missing)}")
            text.append("    -> headwater migrate")
    return text


def _state(node: NodeState) -> str:
    if node.is_aside:
        return "set aside"
    if not node.is_up:
        return "unknown"
    if node.missing:
        return "incomplete"
    takes = node.takes_shards or node.role == "coordinator"
    return "complete" if takes else "being drained"


def _size(size: int | None) -> str | None:
    if size is None:
        return None
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
