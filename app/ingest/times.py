"""Reading times: RFC 3339 text or epoch numbers, as microseconds since 1970 in UTC.

Nothing is guessed: text without an offset and numbers that only make sense in another unit are
refused with what to send instead. Columns of the usual form (…Z) are parsed as one array.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from litestar import Request
from numpy.typing import NDArray

from app.epoch import micros
from app.errors import BadRequest

PRECISIONS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
# epoch seconds beyond the year 2286 are surely a finer unit
LARGEST_SECONDS = 1e10

FEW = 8
"""Arrays cost more than so few times."""

Times = tuple[NDArray[np.int64], dict[int, str]]


def scale(precision: str) -> float:
    """Microseconds per unit of epoch numbers. Raises BadRequest for an unknown precision."""
    try:
        return PRECISIONS[precision]
    except KeyError:
        raise BadRequest(f"precision: {precision!r} is none of s, ms, us, ns.") from None


def precision_of(request: Request[Any, Any, Any], default: str) -> str:
    """In which unit a request's epoch numbers are. Raises BadRequest for an unknown one."""
    if not request.scope["query_string"]:
        return default
    precision = str(request.query_params.get("precision", default))
    scale(precision)
    return precision


def epoch_times(
    numbers: NDArray[np.int64] | NDArray[np.float64], precision: str
) -> NDArray[np.int64] | None:
    """Epoch numbers as microseconds; None where one of them is no time."""
    unit = scale(precision)
    largest = LARGEST_SECONDS * 1e6 / unit
    # so that NaN is no time either
    if numbers.size and not (-largest < numbers.min() and numbers.max() < largest):
        return None
    if numbers.dtype.kind == "f":
        return np.rint(numbers * unit).astype(np.int64)
    return _scaled(numbers.astype(np.int64, copy=False), unit)


def parse_times(values: Sequence[object], precision: str = "s") -> Times:
    """Microseconds, shape (n,), and the reason for each position that is no time (0 there)."""
    unit = scale(precision)
    if len(values) < FEW:
        return _parse_each(values, precision, unit)
    if isinstance(values[0], str):
        fast = _parse_utc_texts(values)
        if fast is not None:
            return fast, {}
    elif set(map(type, values)) == {int}:
        try:
            whole = epoch_times(np.array(values, dtype=np.int64), precision)
        except OverflowError:
            whole = None
        if whole is not None:
            return whole, {}
    return _parse_each(values, precision, unit)


def _parse_each(values: Sequence[object], precision: str, unit: float) -> Times:
    out = np.zeros(len(values), dtype=np.int64)
    reasons: dict[int, str] = {}
    for position, value in enumerate(values):
        try:
            out[position] = _parse_one(value, precision, unit)
        except ValueError as exc:
            reasons[position] = str(exc)
    return out, reasons


def _scaled(numbers: NDArray[np.int64], unit: float) -> NDArray[np.int64]:
    return numbers // 1000 if unit < 1 else numbers * int(unit)


def _parse_utc_texts(values: Sequence[object]) -> NDArray[np.int64] | None:
    """2026-11-21T02:00:00Z and the same with a fraction, all alike; None for anything else."""
    width = len(str(values[0]))
    if not 20 <= width <= 27 or width == 21:
        return None
    try:
        text = "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return None
    if not text.isascii() or set(map(len, values)) != {width}:  # type: ignore[arg-type]
        return None
    grid = np.frombuffer(text.encode(), dtype=np.uint8).reshape(len(values), width)
    marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", width - 1: "Z"}
    if width > 20:
        marks[19] = "."
    digits = np.array([i for i in range(width) if i not in marks])
    if any((grid[:, i] != ord(mark)).any() for i, mark in marks.items()):
        return None
    if (grid[:, digits] - np.uint8(ord("0")) > 9).any():  # below "0" wraps round
        return None
    try:
        bare = np.ascontiguousarray(grid[:, :-1]).view(f"S{width - 1}").reshape(-1)
        return bare.astype("datetime64[us]").astype(np.int64)
    except ValueError:
        return None


def _parse_one(value: object, precision: str, unit: float) -> int:
    if value is None:
        raise ValueError("is missing; send RFC 3339 text or an epoch number")
    if isinstance(value, str):
        try:
            # it would stop reading at a NUL
            moment = datetime.fromisoformat(value.strip().upper().replace("\0", "NUL"))
        except ValueError:
            raise ValueError(f"{value[:40]!r} is not RFC 3339, like 2026-11-21T02:00:00Z") from None
        if len(value) < 11 or moment.tzinfo is None:
            raise ValueError(f"{value[:40]!r} has no UTC offset; end it with Z or ±hh:mm")
        try:
            return micros(moment)
        except OverflowError:
            raise ValueError(f"{value[:40]!r} is out of range") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < LARGEST_SECONDS * 1e6 / unit:  # also true of nan; compares any int
            hint = "; add ?precision=ms" if precision == "s" and abs(value) < 1e14 else ""
            raise ValueError(f"{str(value)[:40]} is no epoch time in {precision}{hint}")
        if isinstance(value, int):
            return value * int(unit) if unit >= 1 else value // 1000
        return round(value * unit)
    raise ValueError("must be RFC 3339 text or an epoch number")
