"""`headwater doctor`: what the server offers, what is missing, what is dangerous."""

import asyncio
from collections.abc import Sequence

import click
import msgspec
import psycopg

from app.errors import CommandError
from app.local.doctor import (
    Feature,
    Finding,
    Offer,
    by_level,
    features,
    findings,
    is_dangerous,
    read_offer,
)
from app.local.doctor_nodes import NodeOffer, node_findings, read_nodes
from app.ops.moves import REMEDY, Move, cut_off, moves_unfinished
from app.settings import Settings

NODE_SECONDS = 10.0


class Report(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    offer: Offer
    nodes: list[NodeOffer]
    """The others of a distributed server."""
    features: list[Feature]
    findings: list[Finding]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(as_json: bool) -> None:
    """Say what the database server offers, lacks and risks; exit status 1 if it is dangerous."""
    report = make_report(*asyncio.run(_ask(Settings.from_env().owner_database_url)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        click.echo("\n".join(lines(report)))
    if is_dangerous(report.findings):
        raise click.exceptions.Exit(1)


def make_report(offer: Offer, nodes: list[NodeOffer], moves: Sequence[Move] = ()) -> Report:
    """Judge the server, its other nodes, and what moves between them."""
    cut = [Finding("warning", "move", text, REMEDY) for text in cut_off(moves)]
    found = by_level([*findings(offer), *node_findings(offer, nodes), *cut])
    return Report(offer, nodes, features(offer), found)


async def _ask(url: str) -> tuple[Offer, list[NodeOffer], list[Move]]:
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as exc:
        reason = str(exc).strip().splitlines()[0]
        raise CommandError(
            f"no database to examine ({reason}): `headwater dev up`, or set OWNER_DATABASE_URL"
        ) from None
    async with connection:
        offer = await read_offer(connection)
        nodes = await read_nodes(connection, offer, url, seconds=NODE_SECONDS)
        return (
            offer,
            nodes,
            await _moves(connection),
        )


async def _moves(connection: psycopg.AsyncConnection) -> list[Move]:
    cursor = await connection.execute("select to_regproc('ops.unfinished_moves') is not null")
    return await moves_unfinished(connection) if await cursor.fetchone() == (True,) else []


def lines(report: Report) -> list[str]:
    """The report as plain text."""
    offer = report.offer
    text = [f"PostgreSQL {offer.server_version}"]
    text += table(
        [
            ("timescaledb", offer.timescaledb_version, offer.timescaledb_available, offer.edition),
            ("timescaledb_toolkit", offer.toolkit_version, offer.toolkit_available, ""),
            ("citus", offer.citus_version, offer.citus_available, ""),
            ("postgis", offer.postgis_version, offer.postgis_available, ""),
        ],
        ("extension", "in use", "available", "edition"),
    )
    if report.nodes:
        text += ["", *_node_lines(report.nodes)]
    text += ["", *_feature_lines(report.features), ""]
    if not report.findings:
        text.append("Nothing is wrong.")
    for finding in report.findings:
        text.append(f"{finding.level.upper()}  {finding.subject}: {finding.detail}")
        text.append(f"    -> {finding.remedy}")
    return text


def _node_lines(nodes: Sequence[NodeOffer]) -> list[str]:
    rows = [
        (
            *(str(node.number), node.address, str(node.shards)),
            *(_versions(node.offer) if node.offer else ("down",)),
        )
        for node in nodes
    ]
    header = ("node", "address", "shards", "PostgreSQL", "timescaledb", "edition", "citus")
    return table([row + ("",) * (len(header) - len(row)) for row in rows], header)


def _versions(offer: Offer) -> tuple[str | None, ...]:
    return offer.server_version, offer.timescaledb_version, offer.edition, offer.citus_version


def _feature_lines(features: Sequence[Feature]) -> list[str]:
    rows = [
        (item.feature, item.needs, item.status, "" if item.status == "yes" else item.detail)
        for item in features
    ]
    return table(rows, ("feature", "needs", "status", "without it"))


def table(rows: Sequence[tuple[str | None, ...]], header: tuple[str, ...]) -> list[str]:
    """Columns as wide as they must be, two blanks apart; None shows as a dash."""
    cells = [header, *(tuple("-" if cell is None else cell for cell in row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
