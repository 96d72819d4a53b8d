"""What the readers of all formats share: the text of a file, numbers, and where a fault is.

A fault ends in a `CommandError` of one line: file, line, what was found, what was expected. A
file is never read in part: it is either understood as a whole or refused.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from app.errors import CommandError
from app.replay.series import Series

EMPTY = frozenset({"", "na", "nan"})
"""Cells that say there is no value."""
SHOWN = 40
"""Characters of a faulty cell that a message shows."""


def read_lines(path: Path) -> list[str]:
    """The file's lines, gzip or plain, with or without a byte order mark."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except OSError as exc:  # includes gzip.BadGzipFile
        raise CommandError(f"{path}: {exc.strerror or exc}") from None
    except (EOFError, zlib.error) as exc:
        raise CommandError(f"{path}: the gzip file is damaged or cut short: {exc}") from None
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").split("\n")


def fault(path: Path, line: int, found: str, expected: str) -> CommandError:
    """The one line that names file, line, what is there and what should be."""
    text = found if len(found) <= SHOWN else found[:SHOWN] + "…"
    return CommandError(f"{path}: line {line}: {text!r} found, {expected} expected")


def number(text: str, path: Path, line: int, column: str) -> float | None:
    """A cell's value; None where there is none."""
    text = text.strip()
    if text.lower() in EMPTY:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise fault(path, line, text, f"a number in column {column}")
    return value


class Collector:
    """Readings of one file, grown row by row into one series per sensor and metric."""

    def __init__(self) -> None:
        self.columns: dict[tuple[str, str], tuple[str, list[int], list[float]]] = {}

    def add(self, *, sensor: str, metric: str, unit: str, ts: int, value: float) -> None:
        """One reading."""
        column = self.columns.get((sensor, metric))
        if column is None:
            column = self.columns[sensor, metric] = (unit, [], [])
        column[1].append(ts)
        column[2].append(value)

    def series(self) -> list[Series]:
        """All of it in time order; readings of one time stay in the file's order."""
        result = []
        for (sensor, metric), (unit, times, numbers) in self.columns.items():
            ts = np.array(times, dtype=np.int64)
            order = np.argsort(ts, kind="stable")
            values = np.array(numbers, dtype=np.float64)[order]
            result.append(
                Series(sensor=sensor, metric=metric, unit=unit, ts=ts[order], values=values)
            )
        return result
