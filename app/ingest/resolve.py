"""From the sender's words to what the database stores: ids, stored units, clock window, plausibility."""

import time

import numpy as np
from numpy.typing import NDArray

from app.errors import ClockWindow
from app.identity.permission import Principal
from app.ingest.band import BandTable
from app.ingest.batch import Batch, is_ascending
from app.ingest.catalogue import Catalogue, Fleet, is_uid
from app.ingest.channel import ChannelTable
from app.ingest.columns import Columns
from app.settings import Settings

NOT_EVALUATED, FAIL = 2, 4
SMALLEST, LARGEST = 1e-120, 1e120
"""Magnitudes whose squares, and sums of them, a double can hold: rollups keep both."""
UNCLEAR = "is not known yet, and a server that must be asked is away; send the reading again"
CLOCK_WINDOW = f"/problems/{ClockWindow.slug}"


async def resolve(
    columns: Columns,
    catalogue: Catalogue,
    principal: Principal,
    settings: Settings,
    bands: BandTable | None,
) -> tuple[Batch, NDArray[np.bool_] | None]:
    """The batch to write and which of its readings are late, shape (n,); None: none is.

    What can't be written moves from `columns` to its rejections; `columns.index` then belongs to the
    batch, reading by reading.
    """
    assert principal.tenant_id is not None
    line = await _resolve_sensors(columns, catalogue, principal, bands)
    table = await catalogue.channels(columns.channels)
    columns.reject_numbers(columns.channel_no, table.refused)
    late_us = _reject_wrong_clocks(columns, settings)
    value = _stored_values(columns, table)

    channel_no = columns.channel_no
    quality = np.full(len(value), NOT_EVALUATED, dtype=np.int16)
    is_implausible = (value < table.low[channel_no]) | (value > table.high[channel_no])
    if np.count_nonzero(is_implausible):
        quality[is_implausible] = FAIL
    batch = Batch(
        sensor_id=columns.sensor_ids[columns.sensor_no],
        metric_id=table.metric_id[channel_no],
        ts=columns.ts,
        value=value,
        quality=quality,
        band=None if line is None else line[columns.sensor_no],
        bands=bands,
        newest=_newest_of_each(columns),
    )
    return batch, None if late_us is None else columns.ts < late_us


def _reject_wrong_clocks(columns: Columns, settings: Settings) -> int | None:
    """Drop readings of the future and the far past; before which time one is late, if any is."""
    if not len(columns.ts):
        return None
    now_us = time.time_ns() // 1000
    first, last = int(columns.ts.min()), int(columns.ts.max())
    future = now_us + settings.clock_future_seconds * 1_000_000
    if last > future:
        columns.reject(
            columns.ts > future,
            "ts",
            f"lies more than {settings.clock_future_seconds} s ahead of the server's clock; "
            "set the sensor's clock",
            CLOCK_WINDOW,
        )
    past = now_us - settings.clock_past_days * 86_400_000_000
    if first < past:
        columns.reject(
            columns.ts < past,
            "ts",
            f"is more than {settings.clock_past_days} days old; set the sensor's clock",
            CLOCK_WINDOW,
        )
    late_us = now_us - settings.late_after_seconds * 1_000_000
    return late_us if first < late_us else None


def _stored_values(columns: Columns, table: ChannelTable) -> NDArray[np.float64]:
    """The values in their stored units, without those that rollups can't take."""
    value = columns.value
    if not table.is_as_stored:
        channel_no = columns.channel_no
        with np.errstate(over="ignore"):  # refused just below
            value = value * table.factor[channel_no] + table.shift[channel_no]
    magnitude = np.abs(value)
    if len(value) and not (magnitude.min() > SMALLEST and magnitude.max() < LARGEST):
        fits = (magnitude < LARGEST) & ((magnitude > SMALLEST) | (value == 0))
        if not fits.all():
            columns.reject(
                ~fits, "value", f"is too large or too small: {SMALLEST:g} to {LARGEST:g}, or 0"
            )
            value = value[fits]
    return value


def _newest_of_each(columns: Columns) -> NDArray[np.intp] | None:
    """Positions of the newest reading of each datastream; None where finding them costs too much."""
    n = len(columns.ts)
    if n == 1:
        return np.zeros(1, dtype=np.intp)
    n_streams = len(columns.sensors) * len(columns.channels)
    if n_streams > 4 * n + 1000:
        return None
    stream = columns.sensor_no * len(columns.channels) + columns.channel_no
    position = np.arange(n)
    newest = np.full(n_streams, -1, dtype=np.intp)
    if is_ascending(columns.ts):
        newest[stream] = position  # of several the last one stays
    else:
        position = np.argsort(columns.ts, kind="stable")
        newest[stream[position]] = position
    return newest[newest >= 0]


async def _resolve_sensors(
    columns: Columns, catalogue: Catalogue, principal: Principal, bands: BandTable | None
) -> NDArray[np.int32] | None:
    """The line of `bands` of each of the columns' sensors, shape (sensors,)."""
    assert principal.tenant_id is not None
    fleets = catalogue.fleets
    fleet = fleets.find(principal, columns.sensors, bands)
    if fleet is not None:
        columns.sensor_ids = fleet.sensor_ids
        return fleet.line
    sensors, unclear = await catalogue.sensors(
        principal.tenant_id,
        columns.sensors,
        is_auto_register=principal.is_auto_register and principal.sensor_ids is None,
    )
    columns.sensor_ids = np.zeros(len(sensors), dtype=np.int64)
    line = None if bands is None else np.zeros(len(sensors), dtype=np.int32)
    refused: dict[int, tuple[str, str]] = {}
    away: dict[int, tuple[str, str]] = {}
    for number, sensor in enumerate(sensors):
        uid = columns.sensors[number]
        if uid in unclear:
            away[number] = ("sensor", f"{uid!r} {UNCLEAR}")
            continue
        if not is_uid(uid):
            reason = f"{uid[:60]!r} is no uid: 1 to 128 characters without NUL"
        elif sensor is None:
            reason = f"{uid[:60]!r} is not known in this tenant; create it with `headwater sensor create`"
        elif sensor.status == "retired":
            reason = f"{uid!r} is retired; activate it or send under another uid"
        elif principal.sensor_ids is not None and sensor.sensor_id not in principal.sensor_ids:
            reason = f"the key may not write {uid!r}; use that sensor's key"
        else:
            columns.sensor_ids[number] = sensor.sensor_id
            if bands is not None and line is not None:
                line[number] = bands.line_of(principal.tenant_id, sensor.site_id, sensor.sensor_id)
            continue
        refused[number] = ("sensor", reason)
    if not refused and not away:
        fleets.keep(columns.sensors, Fleet(principal, bands, columns.sensor_ids, line))
    columns.reject_numbers(columns.sensor_no, refused)
    columns.reject_numbers(columns.sensor_no, away, "unavailable")
    return line
