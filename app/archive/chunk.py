"""Reads a chunk out of PostgreSQL, in pieces of bounded size, by two connections at once.

Every piece is held against what PostgreSQL said of it (app/archive/piece.py) before anything is done with
it, so the digest of what arrived is the digest of what the chunk has.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from psycopg import AsyncConnection

from app.archive.book import SQL, Export, rows
from app.archive.digest import Columns, SensorDigest, Tally
from app.archive.piece import Pieces, Sent, of_pages, of_series

PIECE_ROWS = 200_000
"""Readings that one statement brings, about: 18 bytes each, several times over."""
STREAMS = 2
PAGE_ROWS = 136
"""Readings that fit a page of the row store."""
LAST_PAGE = 2**32 - 2
NOT_EVALUATED = 2
"""The quality that readings have unless somebody says otherwise."""

PAGES, SENSORS = "export_piece_of_pages", "export_pieces_of_sensors"
Task = tuple[str, dict[str, object]]


async def read_chunk(
    connection: AsyncConnection,
    server: str,
    export: Export,
    take: Callable[[Pieces], None] | None = None,
) -> dict[int, SensorDigest]:
    """The digest of an export's chunk; {} where there is none. Raises ArchiveError.

    `server` is where to connect; `take` gets all pieces, in no order, from several threads at once.
    """
    found = await rows(connection, "export_chunk", **export.range)
    if not found:
        return {}
    ((chunk, is_columnar, page_count),) = found
    if is_columnar:
        tasks = _by_sensors(export, await rows(connection, "export_sensors", **export.range))
    else:
        tasks = _by_pages(chunk, page_count)
    tally = Tally()
    usual = NOT_EVALUATED

    def work(sent: Sent, flag: int) -> None:
        nonlocal usual
        if not sent:
            return
        pieces = of_series(sent, flag) if is_columnar else of_pages(sent)
        # what the next pieces need not send
        usual = int(np.bincount(pieces.quality).argmax())
        metric = np.repeat(pieces.metric, pieces.count)
        readings = Columns(pieces.ts, metric, pieces.value, pieces.quality)
        tally.add(pieces.sensor, pieces.starts, readings)
        if take is not None:
            take(pieces)

    async def stream() -> None:
        async with await AsyncConnection.connect(server, autocommit=True) as line:
            await line.execute(SQL["export_session"])
            cursor = line.cursor(binary=True)
            working = asyncio.create_task(asyncio.sleep(0))
            try:
                while tasks:
                    name, arguments = tasks.pop(0)
                    flag = usual
                    await cursor.execute(SQL[name], arguments | {"usual": flag})
                    sent = await cursor.fetchall()
                    await working  # one piece is worked on while the next one arrives
                    working = asyncio.create_task(asyncio.to_thread(work, sent, flag))
            finally:
                await working

    streams = [asyncio.create_task(stream()) for _ in range(min(STREAMS, len(tasks)))]
    try:
        await asyncio.gather(*streams)
    finally:
        for one in streams:
            one.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return tally.digest()


def _by_pages(chunk: str, page_count: int) -> list[Task]:
    """One pass over a row store; the last piece is open, for the table may grow."""
    width = PIECE_ROWS // PAGE_ROWS
    starts = range(0, max(page_count, 1), width)
    return [
        (
            PAGES,
            {"chunk": chunk, "first": at, "last": LAST_PAGE if at == starts[-1] else at + width},
        )
        for at in starts
    ]


def _by_sensors(export: Export, sensors: list[tuple[Any, ...]]) -> list[Task]:
    """Neighbouring sensors together; a sensor that has too much by itself in spans of time."""
    tasks: list[Task] = []
    group: list[int] = []
    size = 0
    for sensor_id, count in [*sensors, (None, PIECE_ROWS)]:
        if group and size + count > PIECE_ROWS:
            spans = -(-size // PIECE_ROWS)
            width = (export.range_to - export.range_from) / spans
            for number in range(spans):
                begin = export.range_from + number * width
                end = export.range_to if number == spans - 1 else begin + width
                span = {"range_from": begin, "range_to": end, "first": group[0], "last": group[-1]}
                tasks.append((SENSORS, span))
            group, size = [], 0
        group.append(sensor_id)
        size += count
    return tasks
