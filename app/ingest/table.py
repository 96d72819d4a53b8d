"""Tables (Arrow, Parquet, CSV) to Columns.

Long form: columns sensor, ts, metric, value and, if wanted, unit; one reading a row; index: the row.
Wide form: columns sensor, ts and one a metric, named `ph` or `temperature [degF]`; null: no value there;
index: counted through every metric's column in order, nulls included, as in columnar JSON.
No Python object is made per reading, only per distinct sensor, metric and unit, unless a reading is bad.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.errors import MalformedBody
from app.ingest.columns import Channel, Columns, distinct
from app.ingest.limits import Limits
from app.ingest.times import epoch_times, parse_times
from app.ingest.verdict import Verdict

MAX_COLUMNS = 1_000
MAX_TEXT = 1 << 26
LONG = ("sensor", "ts", "metric", "value", "unit")
EXPECTED = (
    "expected columns sensor, ts, metric, value and unit, or sensor, ts and one for each metric"
)
WITH_UNIT = re.compile(r"(.*\S)\s*\[([^\[\]]+)\]")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,30}", re.ASCII)

Mask = NDArray[np.bool_]

# what reading hostile bytes may raise besides our own refusals
BROKEN = (
    pa.ArrowException, OSError, ValueError, LookupError, TypeError, NotImplementedError, MemoryError,
)  # fmt: skip


@dataclass
class Texts:
    """A column of words; every row has a number into `distinct`, -1 where null."""

    distinct: list[str]
    number: NDArray[np.int32]


@dataclass
class Numbers:
    """A column of values; shape (n,)."""

    value: NDArray[np.float64]
    is_null: Mask
    reasons: dict[int, str]


def columns_of(table: pa.Table, limits: Limits, *, is_text: bool = False) -> Columns:
    """The readings of a valid table; is_text: numbers and times may be text.

    Raises MalformedBody for columns of the wrong name or type, TooManyReadings.
    """
    names = [name.strip().lower() for name in table.column_names]
    is_long = check_names(names)
    limits.check(table.num_rows if is_long else max(table.num_rows, 1) * (len(names) - 2))
    # tables of several batches may have several dictionaries
    table = table.unify_dictionaries().combine_chunks()
    columns = {name: _array(table.column(i)) for i, name in enumerate(names)}
    sensor = _texts(columns["sensor"], "sensor")
    ts, reasons = _times(columns["ts"], limits.precision, is_text)
    if is_long:
        return _long(columns, sensor, ts, reasons, is_text)
    wide = [
        (title.strip(), columns[name])
        for title, name in zip(table.column_names, names, strict=True)
        if name not in ("sensor", "ts")
    ]
    return _wide(wide, sensor, ts, reasons, is_text)


def check_names(names: list[str]) -> bool:
    """Whether the columns are those of the long form. Raises MalformedBody for neither form's."""
    if len(names) > MAX_COLUMNS:
        raise MalformedBody(f"The table has {len(names)} columns, more than {MAX_COLUMNS}.")
    if len(set(names)) != len(names):
        raise MalformedBody(f"The table has two columns of one name; {EXPECTED}.")
    missing = {"sensor", "ts"} - set(names)
    if missing or len(names) < 3:
        what = f"column {min(missing)!r}" if missing else "column of values"
        raise MalformedBody(f"The table has no {what}; {EXPECTED}.")
    if not {"metric", "value"} & set(names):
        return False
    for name in ("metric", "value"):
        if name not in names:
            raise MalformedBody(f"The table has no column {name!r}; {EXPECTED}.")
    unknown = set(names) - set(LONG)
    if unknown:
        raise MalformedBody(f"Column {min(unknown)[:60]!r} is not known; {EXPECTED}.")
    return True


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


def _texts(array: pa.Array, name: str) -> Texts:
    if pa.types.is_null(array.type):
        return Texts([], np.full(len(array), -1, dtype=np.int32))
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        raise MalformedBody(f"Column {name!r} is {_kind(array.type)}; send text.")
    if pa.types.is_string_view(kind):
        array = _without_views(array)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    raw = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    used, position = distinct(raw + 1, len(array.dictionary) + 1)  # 0 is null
    numbers: dict[str, int] = {}
    new = np.full(len(used), -1, dtype=np.int32)
    start = int(bool(used.size) and used[0] == 0)
    words = array.dictionary.take(pa.array(used[start:] - 1)).to_pylist()
    for at, word in enumerate(words, start=start):
        if word is not None:
            new[at] = numbers.setdefault(word, len(numbers))
    return Texts(list(numbers), new[position])


def _without_views(array: pa.Array) -> pa.Array:
    """The same texts one behind the other; views may all show one long text, so they are measured."""
    if pa.types.is_dictionary(array.type):
        texts = _without_views(array.dictionary)
        return pa.DictionaryArray.from_arrays(array.indices, texts)
    views = np.frombuffer(array.buffers()[1] or b"", dtype=np.int32)[::4]
    if views[array.offset :][: len(array)].sum(dtype=np.int64) > MAX_TEXT:
        raise MalformedBody(f"A text column is longer than {MAX_TEXT} bytes.")
    return array.cast(pa.large_string())


def _times(
    array: pa.Array, precision: str, is_text: bool
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Microseconds and the reason for each row that has none."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise MalformedBody(
                "Column 'ts' is a timestamp without a time zone; send timestamp[us, UTC]."
            )
        precision = kind.unit
        numbers = array.cast(pa.int64())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = array
    elif pa.types.is_null(kind):
        return parse_times([None] * len(array), precision)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_times(array, precision, is_text)
    elif pa.types.is_dictionary(kind) or pa.types.is_string_view(kind):
        return _distinct_times(_texts(array, "ts"), precision)
    else:
        raise MalformedBody(
            f"Column 'ts' is {_kind(kind)}; send timestamps with a time zone, epoch numbers or text."
        )
    if not array.null_count:
        try:
            wanted = pa.float64() if pa.types.is_floating(kind) else pa.int64()
            fast = epoch_times(numbers.cast(wanted).to_numpy(zero_copy_only=False), precision)
        except pa.ArrowInvalid:  # an unsigned number beyond int64
            fast = None
        if fast is not None:
            return fast, {}
    return parse_times(numbers.to_pylist(), precision)


def _text_times(
    array: pa.Array, precision: str, is_text: bool
) -> tuple[NDArray[np.int64], dict[int, str]]:
    if not array.null_count and len(array):
        first = array[0].as_py()
        if is_text and WHOLE.fullmatch(first):
            try:
                whole = epoch_times(array.cast(pa.int64()).to_numpy(), precision)
            except pa.ArrowInvalid:
                whole = None
            if whole is not None:
                return whole, {}
        elif first[-1:] == "Z":
            try:
                stamps = array.cast(pa.timestamp("us", "UTC"))
                return stamps.cast(pa.int64()).to_numpy(), {}
            except pa.ArrowInvalid:
                pass
    values: list[object] = array.to_pylist()
    if is_text:
        values = [_maybe_number(value) for value in values]
    return parse_times(values, precision)


def _distinct_times(texts: Texts, precision: str) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Times of which many rows share one: looked at once per distinct text."""
    known, why = parse_times([*texts.distinct, None], precision)
    reasons = {
        row: why[number if number >= 0 else len(texts.distinct)]
        for row, number in enumerate(texts.number.tolist())
        if number < 0 or number in why
    }
    return known[texts.number], reasons


def _maybe_number(value: object) -> object:
    text = str(value).strip()
    if value is None or not NUMBER.fullmatch(text):
        return value
    return int(text) if WHOLE.fullmatch(text) else float(text)


def _values(array: pa.Array, name: str, is_text: bool) -> Numbers:
    kind = array.type
    is_null = array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_null(kind):
        return Numbers(np.zeros(len(array)), is_null, {})
    reasons: dict[int, str] = {}
    if is_text and pa.types.is_string(kind):
        try:
            numbers = array.cast(pa.float64())
        except pa.ArrowInvalid:
            numbers, reasons = _text_values(array.to_pylist())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = array.cast(pa.float64(), safe=False)
    else:
        raise MalformedBody(f"Column {name[:60]!r} is {_kind(kind)}; send numbers.")
    value = numbers.fill_null(0.0).to_numpy(zero_copy_only=False)
    for position in np.flatnonzero(~np.isfinite(value)).tolist():
        reasons[position] = "must be a finite number"
    return Numbers(value, is_null, reasons)


def _text_values(texts: list[str | None]) -> tuple[pa.Array, dict[int, str]]:
    values = np.zeros(len(texts))
    reasons: dict[int, str] = {}
    for position, text in enumerate(texts):
        if text is None:
            continue
        if NUMBER.fullmatch(text.strip()):
            values[position] = float(text)
        elif text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
            values[position] = np.nan
        else:
            reasons[position] = f"must be a number, not {text[:40]!r}"
    return pa.array(values), reasons


def _long(
    columns: dict[str, pa.Array],
    sensor: Texts,
    ts: NDArray[np.int64],
    bad_times: dict[int, str],
    is_text: bool,
) -> Columns:
    n = len(ts)
    metric = _texts(columns["metric"], "metric")
    unit = _texts(columns["unit"], "unit") if "unit" in columns else None
    values = _values(columns["value"], "value", is_text)
    rejected: dict[int, Verdict] = {}
    for name, missing in (
        ("sensor", sensor.number < 0),
        ("metric", metric.number < 0),
        ("value", values.is_null),
    ):
        for row in np.flatnonzero(missing).tolist():
            rejected.setdefault(row, Verdict(row, "rejected", name, "is missing"))
    for name, reasons in (("value", values.reasons), ("ts", bad_times)):
        for row, reason in reasons.items():
            rejected.setdefault(row, Verdict(row, "rejected", name, reason))
    kind = metric.number.astype(np.int64)
    width = 1
    if unit is not None:
        width = len(unit.distinct) + 1
        kind = kind * width + unit.number + 1
    result = Columns(
        sensors=sensor.distinct,
        channels=[],
        sensor_no=sensor.number,
        channel_no=np.zeros(n, dtype=np.int32),
        ts=ts,
        value=values.value,
        index=np.arange(n, dtype=np.int64),
        rejected=list(rejected.values()),
    )
    if rejected:
        keep = np.ones(n, dtype=np.bool_)
        keep[list(rejected)] = False
        result.keep(keep)
        kind = kind[keep]
    kinds, position = distinct(kind, max(len(metric.distinct), 1) * width)
    result.channel_no = position.astype(np.int32)
    for number in kinds.tolist():
        unit_no = number % width - 1
        word = unit.distinct[unit_no] if unit is not None and unit_no >= 0 else None
        result.channels.append((metric.distinct[number // width], word))
    return result


def _wide(
    wide: list[tuple[str, pa.Array]],
    sensor: Texts,
    ts: NDArray[np.int64],
    bad_times: dict[int, str],
    is_text: bool,
) -> Columns:
    n = len(ts)
    bad_rows = {row: ("ts", reason) for row, reason in bad_times.items()}
    for row in np.flatnonzero(sensor.number < 0).tolist():
        bad_rows[row] = ("sensor", "is missing")
    rejected: list[Verdict] = []
    rows: list[NDArray[np.int64]] = []
    value: list[NDArray[np.float64]] = []
    channels: list[Channel] = []
    for number, (title, array) in enumerate(wide):
        named = WITH_UNIT.fullmatch(title)
        channels.append((named[1], named[2].strip()) if named else (title, None))
        values = _values(array, title, is_text)
        bad = {row: ("value", reason) for row, reason in values.reasons.items()} | bad_rows
        good = ~values.is_null
        for row, (field, reason) in bad.items():
            if good[row]:
                rejected.append(Verdict(number * n + row, "rejected", field, reason))
                good[row] = False
        rows.append(np.flatnonzero(good))
        value.append(values.value[rows[-1]])
    sizes = [len(piece) for piece in rows]
    channel_no = np.repeat(np.arange(len(wide), dtype=np.int32), sizes)
    row_no = np.concatenate(rows)
    return Columns(
        sensors=sensor.distinct,
        channels=channels,
        sensor_no=sensor.number[row_no],
        channel_no=channel_no,
        ts=ts[row_no],
        value=np.concatenate(value),
        index=channel_no.astype(np.int64) * n + row_no,
        rejected=rejected,
    )


def _kind(kind: pa.DataType) -> str:
    return str(kind)[:60]
