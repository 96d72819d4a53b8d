"""The fast road for rows: JSON readings of the expected types, column by column.

Anything unexpected raises msgspec.MsgspecError and the body takes the lenient road (lenient.py). What a
gateway repeats in every row (sensor, metric, unit, often the time) is looked at once per distinct value.
"""

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np

from app.ingest.columns import Channel, Columns, numbered
from app.ingest.times import Times, parse_times
from app.ingest.verdict import Verdict


class Row(msgspec.Struct, gc=False):
    """One reading."""

    sensor: str
    ts: str | int | float
    metric: str
    value: float
    unit: str | None = None


class WrappedRows(msgspec.Struct):
    """Rows under a name."""

    readings: list[Row]


ROW = msgspec.json.Decoder(Row)
ROWS = msgspec.json.Decoder(list[Row])
WRAPPED_ROWS = msgspec.json.Decoder(WrappedRows)


def columns_of(rows: Sequence[Row], precision: str) -> Columns:
    """The rows as columns; those without a valid time are rejected."""
    n = len(rows)
    sensors, sensor_no = numbered([row.sensor for row in rows])
    metrics = [row.metric for row in rows]
    units = [row.unit for row in rows]
    channels: list[Channel]
    if units.count(None) == n:
        names, channel_no = numbered(metrics)
        channels = [(name, None) for name in names]
    else:
        channels, channel_no = numbered(list(zip(metrics, units, strict=True)))
    ts, reasons = _times([row.ts for row in rows], precision)
    columns = Columns(
        sensors=sensors,
        channels=channels,
        sensor_no=sensor_no,
        channel_no=channel_no,
        ts=ts,
        value=np.frombuffer(array("d", [row.value for row in rows])),
        index=np.arange(n, dtype=np.int64),
    )
    if reasons:
        columns.rejected.extend(Verdict(i, "rejected", "ts", why) for i, why in reasons.items())
        keep = np.ones(n, dtype=np.bool_)
        keep[list(reasons)] = False
        columns.keep(keep)
    return columns


def _times(values: Sequence[str | int | float], precision: str) -> Times:
    """As parse_times; those that come again and again are parsed once."""
    if len(set(values[:64])) <= 32:
        distinct, number = numbered(values)
        ts, reasons = parse_times(distinct, precision)
        if not reasons:
            return ts[number], reasons
    return parse_times(values, precision)
