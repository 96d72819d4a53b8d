"""Proves again that the lake holds what the manifests say: files lost or altered since are found.

Reads every file to its end, or only asks for its size (`is_quick`). Nothing is repaired: the finding is
recorded in archive.export and told.
"""

import asyncio

import msgspec
from psycopg import AsyncConnection

from app.archive.book import rows
from app.archive.digest import CHECKSUM_KIND, SensorDigest, difference, digest_of
from app.archive.export import digest_lake
from app.archive.files import NAMED_SHA256
from app.archive.fingerprint import DIGEST
from app.archive.lake import COLUMNS, TABLE, Lake, LakeError


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one export."""

    export_id: int
    day: str
    problem: str


async def check(
    connection: AsyncConnection, lake: Lake, *, is_quick: bool = False
) -> tuple[int, list[Finding]]:
    """How many exports were looked at, and what was found."""
    exports = await rows(connection, "check_exports")
    findings = []
    for export_id, range_from, snapshot_id, checksum_kind in exports:
        problem = await _files(connection, lake, snapshot_id, is_quick=is_quick)
        if problem is None and not is_quick:
            problem = await _content(connection, lake, export_id, checksum_kind)
        await rows(connection, "export_checked", export_id=export_id, problem=problem)
        if problem is not None:
            findings.append(
                Finding(export_id=export_id, day=f"{range_from:%Y-%m-%d %H:%M}", problem=problem)
            )
    return len(exports), findings


async def _files(
    connection: AsyncConnection, lake: Lake, snapshot_id: int, *, is_quick: bool
) -> str | None:
    for path, size in await rows(
        connection, "check_files", snapshot_id=snapshot_id, data_path=lake.place.data_path
    ):
        name = str(path)
        found = await asyncio.to_thread(lake.place.size_of, name)
        if found is None:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes, not {size}"
        # what DuckDB wrote, late readings, and earlier versions are known by their readings alone
        named = NAMED_SHA256.search(name)
        if named and not is_quick:
            sha256 = await asyncio.to_thread(lake.place.sha256_of, name)
            if sha256 != named[1]:
                return f"{name} has other bytes (SHA-256)"
    return None


async def _content(
    connection: AsyncConnection, lake: Lake, export_id: int, kind: int
) -> str | None:
    wanted = {
        row[0]: SensorDigest(row[0], row[1], row[2], row[3], row[4], abs(row[4]), int(row[5]))
        for row in await rows(connection, "check_manifest", export_id=export_id)
    }
    try:
        if kind == CHECKSUM_KIND:
            found = await digest_lake(lake, f"export_id = {export_id}")
        else:
            source = f"(select {COLUMNS} from {TABLE} where export_id = {export_id})"
            found = digest_of(await lake.ask(DIGEST.format(source=source)))
    except LakeError as exc:
        return f"can't be read: {exc}"
    gone = {row[0] for row in await rows(connection, "check_expired", export_id=export_id)}
    return difference(wanted, {key: one for key, one in found.items() if key not in gone})
