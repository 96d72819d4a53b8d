"""Raw readings from wherever they are, in pages along (time, sensor, metric), nothing twice.

Hot rows are read first, then which exports are cold: a chunk that is dropped in between was read hot, and
one that was dropped before is in the list. What both have is taken once; the cold reading wins, because
it was stored first. Recent spans, which nothing can have left, never ask for the archive at all.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from psycopg import AsyncConnection

from app.archive.book import rows
from app.archive.hot import ids, moment
from app.archive.lake import TABLE, Lake, LakeError
from app.archive.place import Place
from app.db.pool import Connection
from app.db.reads import Reads
from app.epoch import moment_of
from app.errors import CommandError, Unavailable
from app.read.series import Key, RawRow, Selection, readings_raw
from app.settings import Settings

log = structlog.get_logger()

HOT_FOR_SURE = timedelta(days=3, hours=12)
"""Nothing younger can be cold; jobs/archive.py refuses to move what is younger than four days."""
AT_ONCE = 2
"""Statements that DuckDB works on at once in this process."""

Span = tuple[datetime, datetime]
Export = tuple[int, datetime, datetime]


class Found(NamedTuple):
    """What PostgreSQL has of a page, and what it takes to read the rest."""

    hot: list[RawRow]
    exports: list[Export]
    sensors: Mapping[int, str] = {}
    metrics: Mapping[int, tuple[str, str]] = {}


class ColdReader:
    """The lake for reading, attached when first needed. `close` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake: Lake | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def ask(self, statement: str, arguments: Sequence[object]) -> list[tuple[object, ...]]:
        """A statement's rows. Raises Unavailable."""
        try:
            async with self._slots, asyncio.timeout(self._settings.statement_timeout_seconds):
                lake = await self._open()
                return await lake.read(statement, arguments)
        except TimeoutError:
            raise Unavailable(
                "The archive takes too long; ask for fewer sensors or a shorter span."
            ) from None
        except (LakeError, CommandError) as exc:
            log.warning("archive_unreadable", error=str(exc))
            await self._forget()
            raise Unavailable(
                "Readings of that time are in the archive, which can't be read right now.",
                headers={"Retry-After": "10"},
            ) from None

    async def close(self) -> None:
        """Let go of the lake."""
        await self._forget()

    async def _open(self) -> Lake:
        async with self._opening:
            if self._lake is None:
                settings = self._settings
                self._lake = await asyncio.to_thread(
                    Lake,
                    Place.of(settings),
                    settings.direct_database_url,
                    memory_mb=settings.archive_memory_mb,
                )
            return self._lake

    async def _forget(self) -> None:
        lake, self._lake = self._lake, None
        if lake is not None:
            await asyncio.to_thread(lake.close)


async def readings_anywhere(
    reads: Reads,
    cold: ColdReader,
    *,
    selection: Selection,
    after: Key,
    to_ts: datetime,
    count: int,
    skip: int = 0,
    is_fresh: bool = False,
) -> list[RawRow]:
    """Raw readings after a key, hot and cold. Raises Unavailable."""

    async def hot_only(connection: Connection) -> list[RawRow]:
        return await readings_raw(
            connection, selection=selection, after=after, to_ts=to_ts, count=count, skip=skip
        )

    if after[0] > datetime.now(UTC) - HOT_FOR_SURE:
        return await reads.run(hot_only, is_fresh=is_fresh)

    async def hot_and_where(connection: Connection) -> Found:
        is_cold = bool(await cold_exports_of(connection, after[0], to_ts))
        hot = await readings_raw(
            connection,
            selection=selection,
            after=after,
            to_ts=to_ts,
            count=count + skip if is_cold else count,
            skip=0 if is_cold else skip,
        )
        exports = await cold_exports_of(connection, after[0], to_ts)
        if not exports:
            return Found(hot, exports)
        if not is_cold and skip:  # the first chunk went cold this very moment
            hot = await readings_raw(
                connection, selection=selection, after=after, to_ts=to_ts, count=count + skip
            )
        names = {
            row[0]: row[1] for row in await rows(connection, "cold_sensors", **_who(selection))
        }
        metrics = {row[0]: row[1:] for row in await rows(connection, "cold_metrics")}
        return Found(hot, exports, names, metrics)

    hot, exports, names, metrics = await reads.run(hot_and_where, is_fresh=is_fresh)
    if not exports:
        return hot
    # beyond the hot page's last key there may be more hot rows: what is cold there must wait
    limit = hot[-1].key if len(hot) >= count + skip else None
    found = await _cold_page(
        cold,
        selection,
        list(names),
        exports=exports,
        after=after,
        to_ts=to_ts,
        count=count + skip,
    )
    merged = {row.key: row for row in hot}
    for sensor_id, metric_id, ts, value, quality in found:
        key = (ts, sensor_id, metric_id)
        if limit is not None and key > limit:
            break
        code, unit = metrics[metric_id]
        merged[key] = RawRow(
            sensor=names[sensor_id],
            metric=code,
            ts=ts,
            value=value,
            unit=unit,
            quality=quality,
            sensor_id=sensor_id,
            metric_id=metric_id,
        )
    keys = sorted(merged)
    if len(found) >= count + skip:
        # and beyond the cold page's last key there may be more cold rows
        last = (found[-1][2], found[-1][0], found[-1][1])
        keys = [key for key in keys if key <= last]
    return [merged[key] for key in keys[skip : skip + count]]


async def cold_exports_of(
    connection: AsyncConnection, from_ts: datetime, to_ts: datetime
) -> list[Export]:
    """Exports that count, and their ranges, oldest first."""
    found = await rows(connection, "cold_ranges", range_from=from_ts, range_to=to_ts)
    return [(row[0], row[1], row[2]) for row in found]


def _who(selection: Selection) -> dict[str, object]:
    return {
        "tenant_id": selection.tenant_id,
        "sensor_ids": selection.sensor_ids,
        "site_ids": selection.site_ids,
    }


async def _cold_page(
    cold: ColdReader,
    selection: Selection,
    sensors: list[int],
    *,
    exports: list[Export],
    after: Key,
    to_ts: datetime,
    count: int,
) -> list[tuple[int, int, datetime, float, int]]:
    """The first `count` cold rows after a key: a range first, then ever more at a time."""
    found: list[tuple[int, int, datetime, float, int]] = []
    spans = disjoint(exports)
    width = 1
    while spans and len(found) < count:
        piece, spans = spans[:width], spans[width:]
        width *= 2
        lower = max(after[0], piece[0][0])
        upper = min(to_ts, piece[-1][1])
        numbers = [number for number, begin, end in exports if begin < upper and end > lower]
        where = [
            f"export_id in ({ids(numbers)})",
            f"ts >= {moment(lower)}",
            f"ts < {moment(upper)}",
            f"(ts, sensor_id, metric_id) > ({moment(after[0])}, {int(after[1])}, {int(after[2])})",
            "sensor_id in (select unnest($1::bigint[]))",
        ]
        if selection.metric_ids is not None:
            where.append(f"metric_id in ({ids(selection.metric_ids)})")
        if selection.tenant_id is not None:
            where.append(f"tenant_id = {int(selection.tenant_id)}")
        page = await cold.ask(
            "select sensor_id, metric_id, epoch_us(ts), value, quality"
            f" from {TABLE} where {' and '.join(where)}"
            f" order by ts, sensor_id, metric_id limit {int(count - len(found))}",
            [sensors],
        )
        for sensor_id, metric_id, us, value, quality in page:
            assert isinstance(sensor_id, int)
            assert isinstance(metric_id, int)
            assert isinstance(us, int)
            assert isinstance(value, float)
            assert isinstance(quality, int)
            found.append((sensor_id, metric_id, moment_of(us), value, quality))
    return found


def disjoint(exports: list[Export]) -> list[Span]:
    """The exports' ranges, those that overlap as one, oldest first."""
    spans: list[Span] = []
    for begin, end in sorted((begin, end) for _, begin, end in exports):
        if spans and begin < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((begin, end))
    return spans
