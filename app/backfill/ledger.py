"""Which stretches of which files are in already.

A part is noted in the transaction of its readings. A file is known by its digest; when its number of
rejected readings is not what it was (a sensor was activated, a unit became known), what the ledger
says of it no longer holds and it is gone through anew.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.db.queries import queries
from app.ingest.verdict import Code

SQL = queries("import")


class Known(msgspec.Struct, frozen=True):
    """A row of import_file_get."""

    import_file_id: int
    reading_count: int
    rejected: int
    stored: int
    duplicate: int
    conflict: int
    is_finished: bool


class Part(msgspec.Struct, frozen=True):
    """A row of import_part_get: every reading from the first to the last is in."""

    first_us: int
    last_us: int
    stored: int
    duplicate: int
    conflict: int


async def known_file(connection: AsyncConnection, *, tenant_id: int, sha256: bytes) -> Known | None:
    """What is known of a file."""
    async with connection.cursor(row_factory=class_row(Known)) as cursor:
        await cursor.execute(SQL["import_file_get"], {"tenant_id": tenant_id, "sha256": sha256})
        return await cursor.fetchone()


async def begin_file(
    connection: AsyncConnection,
    *,
    tenant_id: int,
    sha256: bytes,
    name: str,
    reading_count: int,
    rejected: int,
) -> int:
    """A new file, or one that is gone through anew; its id."""
    async with connection.transaction():
        cursor = await connection.execute(
            SQL["import_file_put"],
            {
                "tenant_id": tenant_id, "sha256": sha256, "name": name,
                "reading_count": reading_count, "rejected": rejected,
            },
        )  # fmt: skip
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute(SQL["import_part_forget"], {"import_file_ids": [row[0]]})
    return int(row[0])


async def known_parts(connection: AsyncConnection, *, import_file_id: int) -> list[Part]:
    """The stretches that are in, oldest first."""
    async with connection.cursor(row_factory=class_row(Part)) as cursor:
        await cursor.execute(SQL["import_part_get"], {"import_file_id": import_file_id})
        return await cursor.fetchall()


def covered(ts: NDArray[np.int64], parts: list[Part]) -> NDArray[np.bool_]:
    """Which readings the parts have, shape (n,)."""
    if not parts:
        return np.zeros(len(ts), dtype=np.bool_)
    first = np.array([part.first_us for part in parts])
    last = np.maximum.accumulate(np.array([part.last_us for part in parts]))
    before = np.searchsorted(first, ts, "right") - 1
    return (before >= 0) & (ts <= last[before])


async def note_part(
    connection: AsyncConnection,
    *,
    import_file_ids: list[int],
    file_no: NDArray[np.int32],
    ts: NDArray[np.int64],
    codes: NDArray[np.uint8],
) -> None:
    """Note a part, a row for each file that has readings in it; ts ascending."""
    rows: dict[str, list[int]] = {
        name: []
        for name in ("import_file_id", "first_us", "last_us", "stored", "duplicate", "conflict")
    }
    for number in np.unique(file_no).tolist():
        mine = file_no == number
        count = np.bincount(codes[mine], minlength=5)
        values = (
            import_file_ids[number], int(ts[mine][0]), int(ts[mine][-1]), int(count[Code.STORED]),
            int(count[Code.DUPLICATE]), int(count[Code.CONFLICT]),
        )  # fmt: skip
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)
    await connection.execute(SQL["import_part_put"], rows)


async def finish_files(connection: AsyncConnection, *, import_file_ids: list[int]) -> None:
    """All parts are in: sum them up and forget them."""
    names = {"import_file_ids": import_file_ids}
    await connection.execute(SQL["import_file_finish"], names)
    await connection.execute(SQL["import_part_forget"], names)
