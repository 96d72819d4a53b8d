"""What stands in a file of history, as columns in the file's own words.

The replay formats (NERRS CSV, CDMO export, USGS RDB) and the long form: Parquet or CSV with the
columns sensor, ts, metric, value and perhaps unit, one reading a row, which pyarrow reads. Times are
never guessed: text needs its UTC offset, a Parquet timestamp its zone or --utc-offset.
A file is read as a whole (some 50 bytes a reading at most).
"""

import gzip
import hashlib
import importlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BadRequest, CommandError
from app.ingest.columns import Channel, Columns
from app.ingest.times import parse_times
from app.replay.readers import read_file
from app.replay.series import Series

LONG_FORM = {"sensor", "ts", "metric", "value"}
SLICE = 1_000_000
"""Readings that are resolved at a time: what is said of rejected ones stays small."""
HOUR_US = 3_600_000_000


def digest(path: Path, *, utc_offset: float | None) -> bytes:
    """SHA-256 of the file and of the option that changes what its times mean."""
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256")
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror or exc}") from None
    if utc_offset is not None:
        sha256.update(struct.pack(">d", utc_offset))
    return sha256.digest()


def read_columns(path: Path, *, utc_offset: float | None) -> Iterator[Columns]:
    """The file's readings in slices. Raises CommandError where it is not one we read."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror or exc}") from None
    if start == b"PAR1":
        whole = _read_table(path, _arrow("pyarrow.parquet").read_table(path), utc_offset)
    elif LONG_FORM.issubset(_header(path)):
        whole = _read_table(path, _read_csv(path), utc_offset)
    else:
        whole = _from_series(read_file(path, utc_offset=utc_offset))
    for first in range(0, len(whole.ts), SLICE):
        part = slice(first, first + SLICE)
        yield Columns(
            whole.sensors, whole.channels, whole.sensor_no[part], whole.channel_no[part],
            whole.ts[part], whole.value[part], whole.index[part],
            rejected=whole.rejected if first == 0 else [],
        )  # fmt: skip
    if not len(whole.ts) and whole.rejected:
        yield whole


def _from_series(series: list[Series]) -> Columns:
    """One stretch for each series."""
    sensors = {one.sensor: None for one in series}
    channels: dict[Channel, None] = {(one.metric, one.unit or None): None for one in series}
    sensor_no = {name: number for number, name in enumerate(sensors)}
    channel_no = {name: number for number, name in enumerate(channels)}
    sizes = [len(one.ts) for one in series]
    return Columns(
        list(sensors),
        list(channels),
        np.repeat(np.array([sensor_no[one.sensor] for one in series], np.int32), sizes),
        np.repeat(
            np.array([channel_no[one.metric, one.unit or None] for one in series], np.int32), sizes
        ),
        np.concatenate([one.ts for one in series] or [np.zeros(0, np.int64)]),
        np.concatenate([one.values for one in series] or [np.zeros(0)]),
        np.arange(sum(sizes)),
    )


def _header(path: Path) -> set[str]:
    """Column names of a CSV file's first line, gzip or plain."""
    with path.open("rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if is_packed else path.open("rb") as stream:
            line = stream.readline(65_536)
    except (OSError, EOFError) as exc:
        raise CommandError(f"{path}: {exc}") from None
    return set(_names(line.decode("utf-8-sig", errors="replace").split(",")))


def _names(names: list[str]) -> list[str]:
    return [name.strip().strip('"').strip().lower() for name in names]


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CommandError(
            "Parquet and long-form CSV need pyarrow: `pip install pyarrow`, or send the file's"
            " readings over HTTP"
        ) from None


def _read_csv(path: Path) -> Any:
    arrow, csv = _arrow("pyarrow"), _arrow("pyarrow.csv")
    text = dict.fromkeys(("sensor", "ts", "metric", "unit"), arrow.string())
    with path.open("rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
    try:
        with arrow.input_stream(str(path), compression="gzip" if is_packed else None) as data:
            return csv.read_csv(
                data,
                convert_options=csv.ConvertOptions(
                    column_types=text | {"value": arrow.float64()},
                    strings_can_be_null=True,
                    null_values=["", "NA", "null"],
                ),
            )
    except (arrow.ArrowInvalid, OSError) as exc:
        raise CommandError(f"{path}: {str(exc).splitlines()[0]}") from None


def _read_table(path: Path, table: Any, utc_offset: float | None) -> Columns:
    """Long form; rows without a value, time, sensor or metric are rejected one by one."""
    table = table.rename_columns(_names(table.column_names))
    missing = LONG_FORM - set(table.column_names)
    if missing:
        raise CommandError(
            f"{path}: lacks the columns {', '.join(sorted(missing))} of the long form"
        )
    sensors, sensor_no = _texts(table["sensor"])
    metrics, metric_no = _texts(table["metric"])
    units: list[str] = []
    unit_no = np.full(len(sensor_no), -1, dtype=np.int32)
    if "unit" in table.column_names:
        units, unit_no = _texts(table["unit"])
    pairs, channel_no = np.unique(
        metric_no.astype(np.int64) * (len(units) + 1) + unit_no + 1, return_inverse=True
    )
    channels = []
    for pair in pairs.tolist():
        metric, unit = divmod(pair, len(units) + 1)
        channels.append((metrics[metric] if metric >= 0 else "", units[unit - 1] if unit else None))
    ts, faults = _times(path, table["ts"], utc_offset)
    columns = Columns(
        sensors,
        [(metric, unit or None) for metric, unit in channels],
        sensor_no,
        channel_no.astype(np.int32),
        ts,
        _values(path, table["value"]),
        np.arange(len(ts)),
    )
    faulty = np.zeros(len(ts), dtype=np.bool_)
    faulty[list(faults)] = True
    is_lost = {
        ("sensor", "is missing"): sensor_no < 0,
        ("metric", "is missing"): metric_no < 0,
        ("value", "is missing or no finite number"): ~np.isfinite(columns.value),
        ("ts", next(iter(faults.values()), "")): faulty,
    }
    for (field, reason), mask in is_lost.items():
        columns.reject(mask[columns.index], field, reason)
    return columns


def _texts(column: Any) -> tuple[list[str], NDArray[np.int32]]:
    """Distinct texts and each row's number among them; -1: null."""
    arrow = _arrow("pyarrow")
    coded = column.cast(arrow.string()).combine_chunks().dictionary_encode()
    if hasattr(coded, "num_chunks"):  # a chunked array where the text is longer than 2 GB
        coded = coded.unify_dictionaries().combine_chunks()
    numbers = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return coded.dictionary.to_pylist(), numbers.astype(np.int32)


def _values(path: Path, column: Any) -> NDArray[np.float64]:
    arrow = _arrow("pyarrow")
    try:
        numbers: NDArray[np.float64] = column.cast(arrow.float64()).to_numpy()
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as exc:
        raise CommandError(f"{path}: column value: {str(exc).splitlines()[0]}") from None
    return numbers


def _times(
    path: Path, column: Any, utc_offset: float | None
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Microseconds, and a reason for each row that has no time."""
    arrow = _arrow("pyarrow")
    kind = column.type
    shift = 0
    if arrow.types.is_timestamp(kind) and kind.tz is None:
        if utc_offset is None:
            raise CommandError(
                f"{path}: column ts has no time zone: say which with --utc-offset HOURS (0: UTC)"
            )
        shift = round(utc_offset * HOUR_US)
    if not arrow.types.is_timestamp(kind) and column.null_count == 0:
        try:
            if arrow.types.is_string(kind):  # refuses text without an offset
                column = column.cast(arrow.timestamp("us", "UTC"))
        except arrow.ArrowInvalid:
            pass
    if arrow.types.is_timestamp(column.type):
        whole = column.cast(arrow.timestamp("us", column.type.tz), safe=False).cast(arrow.int64())
        nulls = np.flatnonzero(column.is_null().to_numpy())
        micros: NDArray[np.int64] = whole.fill_null(0).to_numpy()
        return micros - shift, dict.fromkeys(nulls.tolist(), "is missing")
    try:
        return parse_times(column.to_pylist())
    except BadRequest as exc:
        raise CommandError(f"{path}: {exc.detail}") from None
