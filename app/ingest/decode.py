"""JSON bodies to Columns: rows, columnar, NDJSON.

Two roads. The fast one decodes with a type and fails as a whole on anything unexpected. Then the
lenient one decodes again without types and gives every bad reading its own verdict, so that one wrong
value never costs its neighbours. Only a body that can't be split into readings is refused whole.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import MalformedBody, TooManyReadings
from app.ingest.columns import Channel, Columns
from app.ingest.rows import ROW, ROWS, Row, columns_of
from app.ingest.times import parse_times
from app.ingest.verdict import Verdict

Time = str | int | float


class Item(msgspec.Struct):
    """One sensor's columns."""

    sensor: str
    ts: list[Time]
    metrics: dict[str, list[float | None]]
    units: dict[str, str] | None = None


class Wrapped(msgspec.Struct):
    """The list may also stand under a name."""

    series: list[Item] | None = None
    readings: list[Item] | None = None


class WrappedRows(msgspec.Struct):
    """Rows under a name."""

    readings: list[Row]


ITEM = msgspec.json.Decoder(Item)
ITEMS = msgspec.json.Decoder(list[Item])
WRAPPED = msgspec.json.Decoder(Wrapped)
WRAPPED_ROWS = msgspec.json.Decoder(WrappedRows)

EXPECTED = (
    'expected a list of readings like [{"sensor":"uid","ts":"2026-11-21T02:00:00Z","metric":"ph",'
    '"value":7.2}] or columns like {"sensor":"uid","ts":[…],"metrics":{"ph":[…]}}'
)


class Limits(msgspec.Struct, frozen=True):
    """What one request may hold."""

    max_readings: int
    precision: str = "s"
    max_bytes: int = 16_777_216

    def check(self, count: int) -> None:
        """Raise TooManyReadings."""
        if count > self.max_readings:
            raise TooManyReadings(
                f"{count} readings are more than the {self.max_readings} that one request may hold; "
                "send several.",
                limit_readings=self.max_readings,
            )


def decode_json(body: bytes, limits: Limits) -> Columns:
    """A JSON body. Raises MalformedBody, TooManyReadings."""
    try:
        if b'"metrics"' in body:
            return _from_columnar(_items(body), limits)
        found = ROWS.decode(body) if body.lstrip()[:1] == b"[" else _rows(body)
        limits.check(len(found))
        return columns_of(found, limits.precision)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return from_objects(_elements(_loads(body)), limits)


def _items(body: bytes) -> list[Item]:
    if body.lstrip()[:1] == b"[":
        return ITEMS.decode(body)
    wrapped = WRAPPED.decode(body)
    if wrapped.series is not None:
        return wrapped.series
    return [ITEM.decode(body)] if wrapped.readings is None else wrapped.readings


def _rows(body: bytes) -> list[Row]:
    """One reading, or a list of them under a name."""
    try:
        return [ROW.decode(body)]
    except msgspec.ValidationError:
        return WRAPPED_ROWS.decode(body).readings


def decode_lines(body: bytes, limits: Limits) -> Columns:
    """NDJSON: one reading, or one sensor's columns, a line."""
    try:
        if b'"metrics"' in body:
            return _from_columnar(ITEM.decode_lines(body), limits)
        rows = ROW.decode_lines(body)
        limits.check(len(rows))
        return columns_of(rows, limits.precision)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines = [line for line in body.split(b"\n") if line.strip()]
        limits.check(len(lines))
        return from_objects([_line(line) for line in lines], limits)


class _Parts:
    """Gathers one sensor's column after the other."""

    def __init__(self) -> None:
        self.sensors: dict[str, int] = {}
        self.channels: dict[Channel, int] = {}
        self.pieces: list[
            tuple[int, int, NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
        ]
        self.pieces = []
        self.rejected: list[Verdict] = []

    def add(
        self,
        sensor: str,
        channel: Channel,
        ts: NDArray[np.int64],
        value: NDArray[np.float64],
        index: NDArray[np.int64],
    ) -> None:
        sensor_no = self.sensors.setdefault(sensor, len(self.sensors))
        channel_no = self.channels.setdefault(channel, len(self.channels))
        self.pieces.append((sensor_no, channel_no, ts, value, index))

    def reject(self, index: int, field: str, reason: str) -> None:
        self.rejected.append(Verdict(index, "rejected", field or None, reason))

    def columns(self) -> Columns:
        sizes = [len(piece[2]) for piece in self.pieces]
        return Columns(
            sensors=list(self.sensors),
            channels=list(self.channels),
            sensor_no=np.repeat(
                np.array([p[0] for p in self.pieces], dtype=np.int32),
                np.array(sizes, dtype=np.int64),
            ),
            channel_no=np.repeat(
                np.array([p[1] for p in self.pieces], dtype=np.int32),
                np.array(sizes, dtype=np.int64),
            ),
            ts=np.concatenate([p[2] for p in self.pieces] or [np.zeros(0, dtype=np.int64)]),
            value=np.concatenate([p[3] for p in self.pieces] or [np.zeros(0)]),
            index=np.concatenate([p[4] for p in self.pieces] or [np.zeros(0, dtype=np.int64)]),
            rejected=self.rejected,
        )


def _from_columnar(items: Sequence[Item], limits: Limits) -> Columns:
    """All columns end to end, then looked at as one: a gateway sends many short ones."""
    limits.check(len(items))
    sensors: dict[str, int] = {}
    channels: dict[Channel, int] = {}
    times: list[Time] = []
    values: list[float | None] = []
    # per column: sensor number, channel number, where its times begin, how many
    spans: list[tuple[int, int, int, int]] = []
    for item in items:
        n, begin = len(item.ts), len(times)
        limits.check(len(values) + max(n, 1) * len(item.metrics))
        times += item.ts
        sensor_no = sensors.setdefault(item.sensor, len(sensors))
        units = item.units or {}
        for metric, column in item.metrics.items():
            _check_length(item.sensor, metric, len(column), n)
            channel = metric, units.get(metric)
            spans.append((sensor_no, channels.setdefault(channel, len(channels)), begin, n))
            values += column
    sensor_no_of, channel_no_of, begins, counts = np.array(spans, dtype=np.int64).reshape(-1, 4).T
    position = np.arange(len(values))
    starts = np.cumsum(counts) - counts
    at = position + np.repeat(begins - starts, counts)
    ts, reasons = parse_times(times, limits.precision)
    columns = Columns(
        sensors=list(sensors),
        channels=list(channels),
        sensor_no=np.repeat(sensor_no_of, counts).astype(np.int32),
        channel_no=np.repeat(channel_no_of, counts).astype(np.int32),
        ts=ts[at],
        value=np.array(values, dtype=np.float64),  # null becomes NaN, which JSON can't send
        index=position,
    )
    keep = ~np.isnan(columns.value)
    if reasons:
        bad = np.isin(at, list(reasons)) & keep
        columns.rejected.extend(
            Verdict(i, "rejected", "ts", reasons[at[i]]) for i in np.flatnonzero(bad).tolist()
        )
        keep &= ~bad
    if not keep.all():
        columns.keep(keep)
    return columns


def _check_length(sensor: str, metric: str, n_values: int, n_times: int) -> None:
    if n_values != n_times:
        raise MalformedBody(
            f"metrics.{metric[:60]} of sensor {sensor[:60]!r} has {n_values} values for {n_times} times; "
            "send null where there is no value."
        )


def _loads(body: bytes) -> Any:
    try:
        return _parse(body)
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"The body is not valid UTF-8 (byte {exc.start}).") from None
    except UnicodeEncodeError:
        raise MalformedBody("A \\u escape of the body is half of a surrogate pair.") from None
    except json.JSONDecodeError as exc:
        raise MalformedBody(
            f"The body is no complete JSON: {exc.msg} at character {exc.pos}; {EXPECTED}."
        ) from None
    except RecursionError:
        raise MalformedBody(f"The body is nested too deeply; {EXPECTED}.") from None
    except ValueError:
        raise MalformedBody("The body holds an integer of thousands of digits.") from None


def _parse(body: bytes) -> Any:
    """JSON in UTF-8. Raises ValueError of several kinds, RecursionError."""
    document = json.loads(body.decode("utf-8-sig"))
    if b"\\u" in body:  # half of a surrogate pair passes json.loads, but nothing after it
        json.dumps(document, ensure_ascii=False).encode()
    return document


def _line(line: bytes) -> Any:
    try:
        return _parse(line)
    except (ValueError, RecursionError):
        return _Broken()


class _Broken:
    """A line that is no JSON."""


def _elements(document: Any) -> list[Any]:
    if isinstance(document, dict):
        for name in ("series", "readings"):
            if isinstance(document.get(name), list):
                return list(document[name])
        return [document]
    if isinstance(document, list):
        return document
    raise MalformedBody(f"The body is a {type(document).__name__}; {EXPECTED}.")


def from_objects(elements: list[Any], limits: Limits) -> Columns:
    """Elements of unknown make, each bad reading with its own verdict."""
    limits.check(len(elements))
    parts = _Parts()
    offset = 0
    for element in elements:
        if isinstance(element, dict) and "metrics" in element:
            offset = _add_columnar(parts, element, offset, limits)
        else:
            limits.check(offset + 1)
            problem = _add_row(parts, element, offset, limits.precision)
            if problem is not None:
                parts.reject(offset, *problem)
            offset += 1
    return parts.columns()


def _add_row(parts: _Parts, row: Any, index: int, precision: str) -> tuple[str, str] | None:
    """Add one reading, or say (field, reason)."""
    if isinstance(row, _Broken):
        return "", "the line is no valid JSON"
    if not isinstance(row, dict):
        return "", f"must be an object, not {type(row).__name__}"
    for name in ("sensor", "metric"):
        if not isinstance(row.get(name), str):
            return name, "is missing" if row.get(name) is None else "must be text"
    unit = row.get("unit")
    if unit is not None and not isinstance(unit, str):
        return "unit", "must be text"
    problem = value_problem(row.get("value"))
    if problem is not None:
        return "value", problem
    ts, reasons = parse_times([row.get("ts")], precision)
    if reasons:
        return "ts", reasons[0]
    parts.add(
        row["sensor"],
        (row["metric"], unit),
        ts,
        np.array([row["value"]], dtype=np.float64),
        np.array([index], dtype=np.int64),
    )
    return None


def value_problem(value: object) -> str | None:
    """Why something is no value; None where it is one."""
    if value is None:
        return "is missing"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {type(value).__name__}"
    try:
        if not np.isfinite(float(value)):
            return "must be a finite number"
    except OverflowError:
        return "must be a finite number"
    return None


def _add_columnar(parts: _Parts, item: dict[str, Any], offset: int, limits: Limits) -> int:
    """Add one sensor's columns; returns the next free index. Raises MalformedBody on its shape."""
    sensor, times, metrics = item.get("sensor"), item.get("ts"), item["metrics"]
    units = item.get("units") or {}
    if not isinstance(sensor, str):
        raise MalformedBody("sensor: is missing or no text, in an element with metrics.")
    if not isinstance(times, list):
        raise MalformedBody(f"ts of sensor {sensor[:60]!r}: must be a list of times.")
    if not isinstance(metrics, dict) or not isinstance(units, dict):
        raise MalformedBody(f"metrics and units of sensor {sensor[:60]!r}: must be objects.")
    limits.check(offset + max(len(times), 1) * len(metrics))
    ts, reasons = parse_times(times, limits.precision)
    for metric, values in metrics.items():
        unit = units.get(metric)
        if not isinstance(values, list) or not (unit is None or isinstance(unit, str)):
            raise MalformedBody(
                f"metrics.{metric[:60]} of sensor {sensor[:60]!r}: must be a list, its unit text."
            )
        _check_length(sensor, metric, len(values), len(ts))
        good: list[int] = []
        for position, value in enumerate(values):
            if value is None:
                continue
            problem = value_problem(value)
            if problem is not None:
                parts.reject(offset + position, "value", problem)
            elif position in reasons:
                parts.reject(offset + position, "ts", reasons[position])
            else:
                good.append(position)
        where = np.array(good, dtype=np.int64)
        numbers = np.array([values[i] for i in good], dtype=np.float64)
        parts.add(sensor, (metric, unit), ts[where], numbers, where + offset)
        offset += len(ts)
    return offset


FLAT_OWN = frozenset({"sensor_id", "ts", "timestamp", "time", "units"})


def decode_flat(body: bytes, limits: Limits, now_us: int) -> Columns:
    """The older design's form: {"sensor_id":"123","pH":7.2,"temp":15.4}, one object or a list.

    Without a time the reading is as old as its arrival. The index counts through the metrics of each
    object in the order sent.
    """
    elements = _elements(_loads(body))
    limits.check(len(elements))
    parts = _Parts()
    counter = itertools.count()
    for element in elements:
        if isinstance(element, dict):
            _add_flat(parts, element, counter, limits, now_us)
        else:
            parts.reject(next(counter), "", "must be an object with sensor_id and metrics")
    return parts.columns()


def _add_flat(
    parts: _Parts,
    element: dict[str, Any],
    counter: "itertools.count[int]",
    limits: Limits,
    now_us: int,
) -> None:
    """Add one object's readings, or their rejections."""
    measured = [name for name in element if name not in FLAT_OWN]
    if not measured:
        parts.reject(next(counter), "", 'has no metric, like "pH": 7.2')
    sensor = element.get("sensor_id")
    if isinstance(sensor, int) and not isinstance(sensor, bool):
        sensor = str(sensor)
    time = next((element[k] for k in ("ts", "timestamp", "time") if k in element), None)
    ts, reasons = (
        (np.array([now_us], dtype=np.int64), {})
        if time is None
        else parse_times([time], limits.precision)
    )
    units = element.get("units")
    units = units if isinstance(units, dict) else {}
    for name in measured:
        index = next(counter)
        limits.check(index + 1)
        unit = units.get(name)
        why = value_problem(element[name])
        if not isinstance(sensor, str):
            parts.reject(index, "sensor_id", "is missing" if sensor is None else "must be text")
        elif reasons:
            parts.reject(index, "ts", reasons[0])
        elif unit is not None and not isinstance(unit, str):
            parts.reject(index, "units", "must be text")
        elif why:
            parts.reject(index, name[:60], why)
        else:
            number = np.array([element[name]], dtype=np.float64)
            parts.add(sensor, (name, unit), ts, number, np.array([index], dtype=np.int64))
