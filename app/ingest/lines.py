"""All lines of line protocol at once: split by bytes, as good as nothing is done line by line in Python.

Only what is surely plain is taken here; None for anything else (escapes, quotes, comments, a line of
another shape, a number that might be none), and the careful road looks at it (line_protocol.py).
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.ingest.columns import Channel, Columns, distinct, numbered
from app.ingest.limits import Limits
from app.ingest.line import Head, Wrong, parse_head, parse_value
from app.ingest.times import epoch_times

SURPRISES = (b"\\", b'"', b"\r", b"\t", b"\0")
SEPARATORS = b"=,"
NO_SEPARATORS = bytes(set(range(256)) - set(SEPARATORS))
WHOLE = b"0123456789-,"
# JSON's numbers are line protocol's, and nothing reads them faster
FLOATS, WHOLES = msgspec.json.Decoder(list[float]), msgspec.json.Decoder(list[int])
REMEMBERED, LONGEST = 8_192, 200
"""Heads that are parsed once, and the bytes of the longest of them: what a sender repeats."""


def columns_of(body: bytes, limits: Limits, now_us: int) -> Columns | None:
    """The readings; None where the careful road must look. Raises TooManyReadings."""
    if body[:1] in (b"", b"#", b" ") or any(mark in body for mark in SURPRISES):
        return None
    if b"#" in body and b"\n#" in body:
        return None
    body = body.removesuffix(b"\n")
    count = body.count(b"\n") + 1
    width, rest = divmod(body.count(b" "), count)
    if rest or width not in (1, 2) or count > limits.max_readings:
        return None
    lines = [line.split(b" ") for line in body.split(b"\n")]
    if {len(line) for line in lines} != {width + 1}:
        return None
    heads, fields, *stamps = zip(*lines, strict=True)
    try:
        return _columns(heads, fields, _times(stamps, count, limits, now_us), limits)
    except (Wrong, ValueError, OverflowError, msgspec.MsgspecError):
        return None


def _times(
    stamps: list[tuple[bytes, ...]], count: int, limits: Limits, now_us: int
) -> NDArray[np.int64]:
    """A time for each line. Raises ValueError, OverflowError."""
    if not stamps:
        return np.full(count, now_us, dtype=np.int64)
    texts = b",".join(stamps[0])
    if texts.translate(None, WHOLE):  # JSON's have fractions, too
        raise ValueError
    whole = np.array(WHOLES.decode(b"[%b]" % texts), dtype=np.int64)
    ts = epoch_times(whole, limits.precision)
    if ts is None:
        raise ValueError
    return ts


def _columns(
    heads: Sequence[bytes], fields: Sequence[bytes], ts: NDArray[np.int64], limits: Limits
) -> Columns:
    """Raises Wrong, ValueError, TooManyReadings."""
    joined = b",".join(fields)
    separators = joined.translate(None, NO_SEPARATORS)
    if separators != (b"=," * (len(separators) // 2 + 1))[:-1]:
        raise ValueError
    limits.check(len(separators) // 2 + 1)
    parts = joined.replace(b"=", b",").split(b",")
    aliases, alias_no = numbered(parts[::2])
    value = _numbers(parts[1::2])
    if b"" in aliases:
        raise ValueError
    names = [alias.decode() for alias in aliases]

    line_no = np.repeat(np.arange(len(fields)), [text.count(b"=") for text in fields])
    texts, head_no = numbered(heads)
    parsed = [_head(text) for text in texts]
    sensors, sensor_of = numbered([head.sensor for head in parsed])
    # what a field's name means depends on the measurement and the unit
    contexts, context_of = numbered([(head.measurement, head.unit) for head in parsed])
    kind = context_of[head_no][line_no] * np.int64(len(names)) + alias_no
    kinds, kind_no = distinct(kind, len(contexts) * len(names))
    meanings: list[Channel] = []
    for number in kinds.tolist():
        (measurement, unit), name = contexts[number // len(names)], names[number % len(names)]
        meanings.append((measurement if name == "value" else name, unit))
    channels, channel_of = numbered(meanings)
    return Columns(
        sensors=sensors,
        channels=channels,
        sensor_no=sensor_of[head_no][line_no],
        channel_no=channel_of[kind_no],
        ts=ts[line_no],
        value=value,
        index=line_no + 1,
    )


def _head(text: bytes) -> Head:
    return _known_head(text) if len(text) <= LONGEST else parse_head(text)


_known_head = lru_cache(REMEMBERED)(parse_head)


def _numbers(texts: Sequence[bytes]) -> NDArray[np.float64]:
    """The values. Raises Wrong, ValueError where one is no finite number."""
    try:
        found = FLOATS.decode(b"[%b]" % b",".join(texts))
    except msgspec.MsgspecError:  # 7i, .5
        found = [parse_value(text) for text in texts]
    value = np.frombuffer(array("d", found))
    if not np.isfinite(value).all():
        raise ValueError
    return value
