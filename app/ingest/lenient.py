"""The lenient road: JSON of unknown make, each bad reading with its own verdict.

Only a body that can't be split into readings is refused whole.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import MalformedBody
from app.ingest.columnar import check_length
from app.ingest.columns import Channel, Columns
from app.ingest.limits import Limits
from app.ingest.times import parse_times
from app.ingest.verdict import Verdict

EXPECTED = (
    'expected a list of readings like [{"sensor":"uid","ts":"2026-11-21T02:00:00Z","metric":"ph",'
    '"value":7.2}] or columns like {"sensor":"uid","ts":[…],"metrics":{"ph":[…]}}'
)


class Parts:
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


def loads(body: bytes) -> Any:
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


def line_of(line: bytes) -> Any:
    try:
        return _parse(line)
    except (ValueError, RecursionError):
        return _Broken()


class _Broken:
    """A line that is no JSON."""


def elements_of(document: Any) -> list[Any]:
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
    parts = Parts()
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


def _add_row(parts: Parts, row: Any, index: int, precision: str) -> tuple[str, str] | None:
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


def _add_columnar(parts: Parts, item: dict[str, Any], offset: int, limits: Limits) -> int:
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
        check_length(sensor, metric, len(values), len(ts))
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
