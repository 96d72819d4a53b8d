"""Decoded tables, written down so that they can be compared."""

from typing import Any

from app.ingest.columns import Columns
from app.ingest.limits import Limits

LIMITS = Limits(1_000)
T = 1_700_000_000
US = 1_000_000
CSV = "sensor,ts,metric,value\na,1700000000,ph,7.5\nb,1700000001,ph,8\na,1700000002,temp,20.0\n"


def readings(columns: Columns) -> list[tuple[Any, ...]]:
    """(sensor, metric, unit, value, seconds after T, index)."""
    return [
        (columns.sensors[s], *columns.channels[c], v, t / US - T, i)
        for s, c, v, t, i in zip(
            columns.sensor_no, columns.channel_no, columns.value.tolist(), columns.ts.tolist(),
            columns.index.tolist(), strict=True,
        )
    ]  # fmt: skip


def refusals(columns: Columns) -> list[tuple[int, str | None, str | None]]:
    return [(v.index, v.field, v.reason) for v in sorted(columns.rejected, key=lambda v: v.index)]


LONG = [
    ("a", "ph", None, 7.5, 0, 0),
    ("b", "ph", None, 8.0, 1, 1),
    ("a", "temp", None, 20.0, 2, 2),
]
