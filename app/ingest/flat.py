"""The older design's flat form: {"sensor_id":"123","pH":7.2,"temp":15.4}, one object or a list."""

import itertools
from typing import Any

import numpy as np

from app.ingest.columns import Columns
from app.ingest.lenient import Parts, elements_of, loads, value_problem
from app.ingest.limits import Limits
from app.ingest.times import parse_times

FLAT_OWN = frozenset({"sensor_id", "ts", "timestamp", "time", "units"})


def decode_flat(body: bytes, limits: Limits, now_us: int) -> Columns:
    """Flat objects to Columns. Raises MalformedBody, TooManyReadings.

    Without a time the reading is as old as its arrival. The index counts through the metrics of each
    object in the order sent.
    """
    elements = elements_of(loads(body))
    limits.check(len(elements))
    parts = Parts()
    counter = itertools.count()
    for element in elements:
        if isinstance(element, dict):
            _add_flat(parts, element, counter, limits, now_us)
        else:
            parts.reject(next(counter), "", "must be an object with sensor_id and metrics")
    return parts.columns()


def _add_flat(
    parts: Parts,
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
