"""Brings cold readings back into hot chunks: for good (`restore`) or for as long as a merge takes.

The rows go over in a file, so memory stays bounded however many they are. Where a key is hot already, the
cold reading wins: it was stored first.
"""

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path

from psycopg import AsyncConnection

from app.archive.book import SQL, cold_exports, rows
from app.archive.lake import COLUMNS, TABLE, Lake, literal

PIECE_BYTES = 1 << 20


async def bring_back(
    connection: AsyncConnection,
    lake: Lake,
    *,
    range_from: datetime,
    range_to: datetime,
    export_id: int | None = None,
) -> int:
    """Make everything cold in a range hot, too, in one transaction; how many readings.

    `export_id`: the late export that this is for; it learns about duplicates and conflicts.
    """
    exports = await cold_exports(connection, range_from=range_from, range_to=range_to)
    with tempfile.TemporaryDirectory(prefix="headwater-cold-") as folder:
        file = Path(folder) / "cold.csv"
        await lake.ask(
            f"copy (select {COLUMNS} from {TABLE} where export_id in ({ids(exports)})"
            f" and ts >= {moment(range_from)} and ts < {moment(range_to)})"
            f" to {literal(str(file))} (format csv, header false)"
        )
        async with connection.transaction():
            await connection.execute(SQL["staged_cold"])
            async with (
                connection.cursor() as cursor,
                cursor.copy(f"copy staged_cold ({COLUMNS}) from stdin (format csv)") as stream,
            ):
                with file.open("rb") as source:
                    while piece := await asyncio.to_thread(source.read, PIECE_BYTES):
                        await stream.write(piece)
            ((row_count,),) = await (await connection.execute(_COUNT)).fetchall()
            ((duplicates, conflicts),) = await (await connection.execute(_KNOWN)).fetchall()
            await connection.execute(_STORE)
            await rows(
                connection,
                "restored_put",
                range_from=range_from,
                range_to=range_to,
                export_id=export_id,
                row_count=row_count,
            )
            if export_id is not None:
                await rows(
                    connection,
                    "export_merges",
                    export_id=export_id,
                    merge_from=range_from,
                    merge_to=range_to,
                    duplicate_count=duplicates,
                    conflict_count=conflicts,
                )
    return int(row_count)


def ids(exports: list[int]) -> str:
    """For `in (…)`; numbers of our own."""
    return ", ".join(str(int(one)) for one in exports) or "null"


def moment(value: datetime) -> str:
    """As DuckDB's literal."""
    return f"timestamptz {literal(value.isoformat())}"


# the temporary table lives only inside the transaction, so these are no named statements
_COUNT = "select count(*) from staged_cold"
_KNOWN = """
select count(*), count(*) filter (where s.value <> r.value)
from telemetry.reading as r
join staged_cold as s
    on s.ts = r.ts and s.sensor_id = r.sensor_id and s.metric_id = r.metric_id
"""
_STORE = """
insert into telemetry.reading (sensor_id, metric_id, ts, value, quality)
select s.sensor_id, s.metric_id, s.ts, s.value, s.quality
from staged_cold as s
on conflict (ts, sensor_id, metric_id) do update set
    value = excluded.value,
    quality = excluded.quality
where (reading.value, reading.quality) is distinct from (excluded.value, excluded.quality)
"""
