r"""Influx line protocol to Columns: `water,sensor=river-1,unit=degF temp=59.7 1700000000000000000`.

What becomes what
- sensor: the tag `sensor`; without it `sensor_id`, `device` or `host`, the first that is there.
- metric: the field's name, or the measurement where the field is called `value`.
- unit: the tag `unit`, for every field of the line; without it the metric's stored unit.
- time: the line's own in `precision`, else its arrival. Other tags are not stored.
Numbers are stored (7.2, 7i, 7u); text and booleans are refused field by field. A line that is no line
protocol is refused whole, its neighbours are not. `index` is the line's number, from 1, as Influx has it.

Two roads with one meaning: bodies without escapes, quotes and comments are split by Arrow, all lines at
once; on anything unexpected the careful road reads line by line and says what is wrong.
"""

import io
import re

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from app.ingest.columns import Channel, Columns
from app.ingest.limits import Limits
from app.ingest.times import epoch_times, parse_times
from app.ingest.verdict import Verdict

SENSOR_TAGS = ("sensor", "sensor_id", "device", "host")
SMALL = 2_048
"""Bytes below which reading line by line is as quick."""

# a backslash escapes the separator behind it and is itself otherwise
COMMA = re.compile(rb"(?<!\\),")
EQUALS = re.compile(rb"(?<!\\)=")
HEAD = re.compile(rb"(?:[^\\ ]|\\[,= ]?+)++")
FIELD = re.compile(rb'((?:[^\\ ,=]|\\[,= ]?+)++)=("(?:[^"\\]|\\.)*+"|[^ ,"]++)')
NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
WHOLE = re.compile(rb"(-?\d{1,19})i|(\d{1,20})u")
STAMP = re.compile(rb"-?\d{1,19}")
BOOLEANS = frozenset(
    {b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE"}
)

# the same numbers as NUMBER and WHOLE, without those that might not fit
FAST_NUMBER = r"^(?:-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|-?\d{1,18}[iu]?)$"
SURPRISES = (b"\\", b'"', b"\r", b"\t", b"\n#", b"\n\n", b"\0")


class Head(msgspec.Struct, frozen=True):
    """What stands before a line's fields."""

    measurement: str
    sensor: str
    unit: str | None


class Wrong(Exception):
    """A line or field that can't be stored: the field to blame and why."""


def decode_line_protocol(body: bytes, limits: Limits, now_us: int) -> Columns:
    """A body of lines. Raises TooManyReadings."""
    columns = None if len(body) < SMALL else _fast(body, limits, now_us)
    return _careful(body, limits, now_us) if columns is None else columns


def parse_head(text: bytes) -> Head:
    """Measurement and tags. Raises Wrong."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Wrong("line", "is not valid UTF-8") from None
    measurement, *pairs = COMMA.split(text)
    if not measurement:
        raise Wrong("line", "has no measurement")
    tags: dict[str, str] = {}
    for pair in pairs:
        parts = EQUALS.split(pair)
        if len(parts) != 2 or not all(parts):
            raise Wrong("line", f"{pair.decode()[:60]!r} is no tag like key=value")
        name = unescape(parts[0])
        if name in tags:
            raise Wrong("line", f"tag {name[:60]!r} stands twice")
        tags[name] = unescape(parts[1])
    sensor = next((tags[name] for name in SENSOR_TAGS if name in tags), None)
    if sensor is None:
        raise Wrong("sensor", f"no tag names it; add one of {', '.join(SENSOR_TAGS)}")
    return Head(re.sub(r"\\([, ])", r"\1", measurement.decode()), sensor, tags.get("unit"))


def unescape(text: bytes) -> str:
    """A tag's or field's name or a tag's value as it was meant."""
    return re.sub(r"\\([,= ])", r"\1", text.decode())


def parse_value(text: bytes) -> float:
    """A field's number. Raises Wrong."""
    if NUMBER.fullmatch(text):
        value = float(text)
        if not np.isfinite(value):
            raise Wrong("value", "must be a finite number")
        return value
    whole = WHOLE.fullmatch(text)
    if whole:
        number = int(text[:-1])
        if not -(1 << 63) <= number < 1 << (63 if whole[1] else 64):
            raise Wrong("value", "does not fit 64 bits")
        return float(number)
    if text.startswith(b'"'):
        raise Wrong("value", "is text; only numbers are stored")
    if text in BOOLEANS:
        raise Wrong("value", "is a boolean; only numbers are stored")
    raise Wrong("line", f"{text.decode(errors='replace')[:40]!r} is no field value")


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


def _fast(body: bytes, limits: Limits, now_us: int) -> Columns | None:
    """All lines at once; None where the careful road must look."""
    if body[:1] in (b"#", b"\n", b" ") or any(mark in body for mark in SURPRISES):
        return None
    width = body[: body.find(b"\n") + 1 or None].count(b" ") + 1
    if width not in (2, 3):
        return None
    try:
        table = _split(body, ["head", "fields", "ts"][:width])
        pairs = pc.split_pattern(table["fields"].combine_chunks(), ",")
        limits.check(len(pairs.values))
        halves = pc.split_pattern(pairs.values, "=")
        if (np.diff(halves.offsets.to_numpy()) != 2).any():
            return None
        even = pa.array(np.arange(0, len(halves.values), 2))
        names = halves.values.take(even).dictionary_encode()
        value = _numbers(halves.values.take(pc.add(even, 1)))
        heads = table["head"].combine_chunks()
        parsed = [parse_head(text.encode()) for text in heads.dictionary.to_pylist()]
    except (pa.ArrowException, Wrong):
        return None
    aliases = names.dictionary.to_pylist()
    ts: NDArray[np.int64] | None
    if width == 3:
        ts = epoch_times(table["ts"].combine_chunks().to_numpy(), limits.precision)
    else:
        ts = np.full(len(table), now_us, dtype=np.int64)
    if value is None or ts is None or "" in aliases:
        return None

    line_no = np.repeat(np.arange(len(table)), np.diff(pairs.offsets.to_numpy()))
    head_no = heads.indices.to_numpy()[line_no]
    sensors: dict[str, int] = {}
    of_head = np.array([sensors.setdefault(h.sensor, len(sensors)) for h in parsed], dtype=np.int32)
    kinds, kind_no = np.unique(
        head_no.astype(np.int64) * len(aliases) + names.indices.to_numpy(), return_inverse=True
    )
    channels: dict[Channel, int] = {}
    of_kind = np.zeros(len(kinds), dtype=np.int32)
    for position, kind in enumerate(kinds.tolist()):
        head, alias = parsed[kind // len(aliases)], aliases[kind % len(aliases)]
        channel = (head.measurement if alias == "value" else alias, head.unit)
        of_kind[position] = channels.setdefault(channel, len(channels))
    return Columns(
        sensors=list(sensors),
        channels=list(channels),
        sensor_no=of_head[head_no],
        channel_no=of_kind[kind_no],
        ts=ts[line_no],
        value=value,
        index=line_no + 1,
    )


def _split(body: bytes, names: list[str]) -> pa.Table:
    """The space-separated parts of every line. Raises ArrowInvalid."""
    kinds = {
        "head": pa.dictionary(pa.int32(), pa.string()),
        "fields": pa.string(),
        "ts": pa.int64(),
    }
    return pyarrow.csv.read_csv(
        pa.BufferReader(body),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=len(body) + 1, column_names=names
        ),
        parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=kinds, null_values=[]),
    )


def _numbers(texts: pa.StringArray) -> NDArray[np.float64] | None:
    """The values; None where one is no finite number. Raises ArrowInvalid."""
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        if not pc.all(pc.match_substring_regex(texts, FAST_NUMBER)).as_py():
            return None
        numbers = pc.utf8_rtrim(texts, "iu").cast(pa.float64())
    value: NDArray[np.float64] = numbers.to_numpy()
    return value if np.isfinite(value).all() else None
