r"""Influx line protocol to Columns: `water,sensor=river-1,unit=degF temp=59.7 1700000000000000000`.

What becomes what
- sensor: the tag `sensor`; without it `sensor_id`, `device` or `host`, the first that is there.
- metric: the field's name, or the measurement where the field is called `value`.
- unit: the tag `unit`, for every field of the line; without it the metric's stored unit.
- time: the line's own in `precision`, else its arrival. Other tags are not stored.
Numbers are stored (7.2, 7i, 7u); text and booleans are refused field by field. A line that is no line
protocol is refused whole, its neighbours are not. `index` is the line's number, from 1, as Influx has it.

Two roads with one meaning: bodies without escapes, quotes and comments are taken apart as one
(lines.py); on anything unexpected the careful road reads line by line and says what is wrong.
"""

import io
import re

import numpy as np

from app.ingest.columns import Channel, Columns
from app.ingest.limits import Limits
from app.ingest.line import Head, Wrong, parse_head, parse_value, unescape
from app.ingest.lines import columns_of
from app.ingest.times import parse_times
from app.ingest.verdict import Verdict

HEAD = re.compile(rb"(?:[^\\ ]|\\[,= ]?+)++")
FIELD = re.compile(rb'((?:[^\\ ,=]|\\[,= ]?+)++)=("(?:[^"\\]|\\.)*+"|[^ ,"]++)')
STAMP = re.compile(rb"-?\d{1,19}")


def decode_line_protocol(body: bytes, limits: Limits, now_us: int) -> Columns:
    """A body of lines. Raises TooManyReadings."""
    columns = columns_of(body, limits, now_us)
    return _careful(body, limits, now_us) if columns is None else columns


class _Lines:
    """Gathers readings, line by line."""

    def __init__(self, limits: Limits, now_us: int) -> None:
        self.limits = limits
        self.now_us = now_us
        self.heads: dict[bytes, Head | Wrong] = {}
        self.sensors: dict[str, int] = {}
        self.channels: dict[Channel, int] = {}
        self.rows: list[tuple[int, int, int | None, float, int]] = []
        self.rejected: list[Verdict] = []

    def head(self, text: bytes) -> Head:
        head = self.heads.get(text)
        if head is None:
            try:
                head = parse_head(text)
            except Wrong as wrong:
                head = wrong
            self.heads[text] = head
        if isinstance(head, Wrong):
            raise Wrong(*head.args)
        return head

    def reject(self, number: int, field: str, reason: str) -> None:
        self.rejected.append(Verdict(number, "rejected", field, reason))
        self.limits.check(len(self.rows) + len(self.rejected))

    def add(self, number: int, line: bytes) -> None:
        """One line. Raises Wrong where it is refused whole."""
        found = HEAD.match(line)
        if found is None or found.end() == len(line):
            raise Wrong("line", "has no field; expected measurement,tag=value field=1.5 time")
        head = self.head(found[0])
        fields, stamp = _fields(line, found.end())
        numbers: list[tuple[str, float]] = []
        problems: list[tuple[str, str]] = []
        for name, text in fields:
            try:
                numbers.append((name, parse_value(text)))
            except Wrong as wrong:
                if wrong.args[0] == "line":
                    raise
                problems.append((name[:60], wrong.args[1]))
        sensor_no = self.sensors.setdefault(head.sensor, len(self.sensors))
        for name, value in numbers:
            channel = (head.measurement if name == "value" else name, head.unit)
            channel_no = self.channels.setdefault(channel, len(self.channels))
            self.rows.append((sensor_no, channel_no, stamp, value, number))
        for field, reason in problems:
            self.reject(number, field, reason)
        self.limits.check(len(self.rows) + len(self.rejected))

    def columns(self) -> Columns:
        ts = np.full(len(self.rows), self.now_us, dtype=np.int64)
        given = [i for i, row in enumerate(self.rows) if row[2] is not None]
        ts[given], reasons = parse_times([self.rows[i][2] for i in given], self.limits.precision)
        columns = Columns(
            sensors=list(self.sensors),
            channels=list(self.channels),
            sensor_no=np.array([row[0] for row in self.rows], dtype=np.int32),
            channel_no=np.array([row[1] for row in self.rows], dtype=np.int32),
            ts=ts,
            value=np.array([row[3] for row in self.rows], dtype=np.float64),
            index=np.array([row[4] for row in self.rows], dtype=np.int64),
            rejected=self.rejected,
        )
        for position, reason in reasons.items():
            self.rejected.append(
                Verdict(self.rows[given[position]][4], "rejected", "line", f"time {reason}")
            )
        if reasons:
            keep = np.ones(len(ts), dtype=np.bool_)
            keep[[given[position] for position in reasons]] = False
            columns.keep(keep)
        return columns


def _careful(body: bytes, limits: Limits, now_us: int) -> Columns:
    lines = _Lines(limits, now_us)
    for number, raw in enumerate(io.BytesIO(body), start=1):
        line = raw.strip(b" \r\n")
        if line and not line.startswith(b"#"):
            try:
                lines.add(number, line)
            except Wrong as wrong:
                lines.reject(number, *wrong.args)
    return lines.columns()


def _fields(line: bytes, start: int) -> tuple[list[tuple[str, bytes]], int | None]:
    """Names and texts of a line's fields, and its time. Raises Wrong."""
    while line[start : start + 1] == b" ":
        start += 1
    fields: list[tuple[str, bytes]] = []
    while True:
        found = FIELD.match(line, start)
        if found is None:
            rest = line[start : start + 40].decode(errors="replace")
            raise Wrong("line", f"{rest!r} is no field like name=1.5")
        try:
            fields.append((unescape(found[1]), found[2]))
        except UnicodeDecodeError:
            raise Wrong("line", "is not valid UTF-8") from None
        start = found.end() + 1
        mark = line[found.end() : start]
        if mark == b",":
            continue
        if mark not in (b"", b" "):
            raise Wrong("line", "has something behind a closing quote")
        stamp = line[start:].strip(b" ")
        if stamp and not STAMP.fullmatch(stamp):
            raise Wrong("line", f"{stamp.decode(errors='replace')[:40]!r} is no time")
        return fields, int(stamp) if stamp else None
