"""The parts of a line of Influx line protocol: measurement and tags, names, numbers."""

import re

import msgspec
import numpy as np

SENSOR_TAGS = ("sensor", "sensor_id", "device", "host")

# a backslash escapes the separator behind it and is itself otherwise
COMMA = re.compile(rb"(?<!\\),")
EQUALS = re.compile(rb"(?<!\\)=")
MEANT = re.compile(r"\\([, ])")
ESCAPED = re.compile(r"\\([,= ])")
NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
WHOLE = re.compile(rb"(-?\d{1,19})i|(\d{1,20})u")
BOOLEANS = frozenset(
    {b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE"}
)


class Head(msgspec.Struct, frozen=True):
    """What stands before a line's fields."""

    measurement: str
    sensor: str
    unit: str | None


class Wrong(Exception):
    """A line or field that can't be stored: the field to blame and why."""


def parse_head(text: bytes) -> Head:
    """Measurement and tags. Raises Wrong."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Wrong("line", "is not valid UTF-8") from None
    # without escapes plain splitting does, and is a tenth of the work
    is_plain = b"\\" not in text
    measurement, *pairs = text.split(b",") if is_plain else COMMA.split(text)
    if not measurement:
        raise Wrong("line", "has no measurement")
    tags: dict[str, str] = {}
    for pair in pairs:
        parts = pair.split(b"=") if is_plain else EQUALS.split(pair)
        if len(parts) != 2 or not all(parts):
            raise Wrong("line", f"{pair.decode()[:60]!r} is no tag like key=value")
        name = unescape(parts[0])
        if name in tags:
            raise Wrong("line", f"tag {name[:60]!r} stands twice")
        tags[name] = unescape(parts[1])
    sensor = next((tags[name] for name in SENSOR_TAGS if name in tags), None)
    if sensor is None:
        raise Wrong("sensor", f"no tag names it; add one of {', '.join(SENSOR_TAGS)}")
    return Head(MEANT.sub(r"\1", measurement.decode()), sensor, tags.get("unit"))


def unescape(text: bytes) -> str:
    """A tag's or field's name or a tag's value as it was meant."""
    return ESCAPED.sub(r"\1", text.decode()) if b"\\" in text else text.decode()


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
