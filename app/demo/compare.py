"""Does the database hold what the files demand? Each comparison says how many things differ."""

from collections.abc import Sequence

import msgspec
import numpy as np
from psycopg import AsyncConnection

from app.db.queries import queries
from app.demo.expected import Episode
from app.demo.watcher import Cause
from app.epoch import micros
from app.query.run import sql_hot_from
from app.replay.series import Series

SQL = queries("demo")
WIDTHS = {"1m": "1 minute", "1h": "1 hour", "1d": "1 day"}


class Rollup(msgspec.Struct, frozen=True):
    """One rollup against the aggregation of the raw readings."""

    rows: int
    equal_to_raw: bool


class Alerts(msgspec.Struct, frozen=True):
    """The alerts that are there against those that have to be."""

    opened: int
    resolved: int
    expected: int
    missing: int
    unexpected: int


async def count_readings(connection: AsyncConnection, tenant_id: int) -> int:
    """Readings of the tenant in the database."""
    cursor = await connection.execute(SQL["demo_reading_count"], {"tenant_id": tenant_id})
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def compare_alerts(
    connection: AsyncConnection, tenant_id: int, expected: Sequence[Episode]
) -> Alerts:
    """Every field of every episode must agree, to the last bit of the peak."""
    cursor = await connection.execute(SQL["demo_alerts"], {"tenant_id": tenant_id})
    found = {
        (
            *row[:4], micros(row[4]), micros(row[5]), None if row[6] is None else micros(row[6]),
            row[7], row[8],
        )
        for row in await cursor.fetchall()
    }  # fmt: skip
    wanted = {
        (
            e.sensor, e.metric, e.severity, e.side, e.opened_at, e.last_at, e.resolved_at, e.peak,
            e.n,
        )
        for e in expected
    }  # fmt: skip
    return Alerts(
        opened=len(found),
        resolved=sum(episode[6] is not None for episode in found),
        expected=len(wanted),
        missing=len(wanted - found),
        unexpected=len(found - wanted),
    )


async def compare_rollups(connection: AsyncConnection) -> dict[str, Rollup]:
    """All rollups of the database, bucket by bucket, from where on no raw reading is archived."""
    since = await sql_hot_from(connection)
    result = {}
    for name, width in WIDTHS.items():
        cursor = await connection.execute(
            SQL["demo_rollup_differences"], {"rollup": name, "width": width, "since": since}
        )
        row = await cursor.fetchone()
        assert row is not None
        result[name] = Rollup(rows=int(row[0]), equal_to_raw=row[1] == 0)
    return result


class Sendings:
    """When each stretch of each sensor's readings went out."""

    def __init__(self) -> None:
        self._by_sensor: dict[str, list[tuple[int, float]]] = {}

    def note(self, sensor: str, last: int, sent_at: float) -> None:
        """A batch whose newest reading is `last` (microseconds) goes out at `sent_at`."""
        self._by_sensor.setdefault(sensor, []).append((last, sent_at))

    def sent_at(self, sensor: str, ts: int) -> float | None:
        """When the reading of that time was first sent; a sensor's batches are in time order."""
        batches = self._by_sensor.get(sensor, [])
        return next((sent_at for last, sent_at in batches if last >= ts), None)


def latencies(
    expected: Sequence[Episode], sendings: Sendings, arrived: dict[Cause, float]
) -> list[float]:
    """Milliseconds from the POST that held the deciding reading to the subscriber."""
    found = []
    for episode in expected:
        cause = (
            episode.sensor, episode.metric, episode.severity, episode.side, episode.opened_at
        )  # fmt: skip
        sent_at = sendings.sent_at(episode.sensor, episode.raised_at)
        if cause in arrived and sent_at is not None:
            found.append((arrived[cause] - sent_at) * 1000)
    return found


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-th percentile, rounded to 0.1; None without values."""
    return round(float(np.percentile(values, q)), 1) if values else None


def newest(series: Sequence[Series], seconds: float) -> list[Series]:
    """The readings of the last so many seconds."""
    end = max(int(one.ts[-1]) for one in series)
    parts = [one.part(one.ts > end - int(seconds * 1_000_000)) for one in series]
    return [part for part in parts if len(part.ts)]
