"""The statements behind GET /api/v1/readings: raw readings, rollups, rollups with filled gaps.

All are read in pages along the key (time, sensor, metric), so that no connection is held while a slow
client reads, and a page's last key is the next page's cursor.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from app.db.queries import queries

SQL = queries("read")

STEPS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}

Key = tuple[datetime, int, int]


class RawRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of readings_raw."""

    sensor: str
    metric: str
    ts: datetime
    value: float
    unit: str
    quality: int
    sensor_id: int
    metric_id: int

    @property
    def key(self) -> Key:
        """Where the next page goes on."""
        return self.ts, self.sensor_id, self.metric_id


class RollupRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of readings_rollup and readings_filled; an empty bucket has n = 0."""

    sensor: str
    metric: str
    bucket: datetime
    n: int
    avg: float | None
    min: float | None
    max: float | None
    first: float | None
    last: float | None
    unit: str
    n_suspect: int
    n_fail: int
    sensor_id: int
    metric_id: int
    is_filled: bool

    @property
    def key(self) -> Key:
        """Where the next page goes on."""
        return self.bucket, self.sensor_id, self.metric_id


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Whose readings, of what; None: all. All filters hold."""

    tenant_id: int | None
    sensor_ids: list[int] | None
    """Those named, or those of the tenant and the sites where they are few."""
    site_ids: list[int] | None
    metric_ids: list[int] | None


async def readings_raw(
    connection: AsyncConnection,
    *,
    selection: Selection,
    after: Key,
    to_ts: datetime,
    count: int,
    skip: int = 0,
) -> list[RawRow]:
    """Raw readings after a key."""
    async with connection.cursor(row_factory=class_row(RawRow)) as cursor:
        args = _arguments(selection, after) | {"to_ts": to_ts, "count": count, "skip": skip}
        # planned for these very filters each time: one plan for all would suit none
        await cursor.execute(SQL["readings_raw"], args, prepare=False)
        return await cursor.fetchall()


async def readings_rollup(
    connection: AsyncConnection,
    *,
    selection: Selection,
    resolution: str,
    after: Key,
    to_ts: datetime,
    count: int,
    skip: int = 0,
) -> list[RollupRow]:
    """Buckets after a key."""
    async with connection.cursor(row_factory=class_row(RollupRow)) as cursor:
        args = _arguments(selection, after) | {
            "resolution": resolution,
            "to_ts": to_ts,
            "count": count,
            "skip": skip,
        }
        await cursor.execute(SQL["readings_rollup"], args, prepare=False)
        return await cursor.fetchall()


async def readings_filled(
    connection: AsyncConnection,
    *,
    selection: Selection,
    resolution: str,
    fill: str,
    from_ts: datetime,
    after: Key,
    to_ts: datetime,
    count: int,
) -> list[RollupRow]:
    """Every bucket of every series that has any in the span; `from_ts` is a bucket's begin."""
    async with connection.cursor(row_factory=class_row(RollupRow)) as cursor:
        args = _arguments(selection, after) | {
            "resolution": resolution,
            "fill": fill,
            "step": STEPS[resolution],
            "from_ts": from_ts,
            "to_ts": to_ts,
            "count": count,
        }
        await cursor.execute(SQL["readings_filled"], args, prepare=False)
        return await cursor.fetchall()


async def series_count(connection: AsyncConnection, *, selection: Selection) -> int:
    """How many series a selection has."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["series_count"], msgspec.structs.asdict(selection), prepare=False)
        return int(await cursor.fetchone() or 0)


def _arguments(selection: Selection, after: Key) -> dict[str, Any]:
    return msgspec.structs.asdict(selection) | {
        "after_ts": after[0],
        "after_sensor_id": after[1],
        "after_metric_id": after[2],
    }
