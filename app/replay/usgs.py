"""U.S. Geological Survey instantaneous values, the NWIS web service's RDB format.

Tab-separated; `#` comments, a line of column names, a line of column widths, then rows; a file of
several sites repeats the three. A value column is named `<series>_<parameter>` and is followed by
its `_cd` column of qualifiers. `tz_cd` says per row which local time it is, daylight saving
included. A word in a value column (`Ice`, `Eqp`, `***`) says why there is no value: skipped.

A site with two series of one parameter (an old and a new sonde, say) is two sensors there: the
first keeps the site's name, each further one is named `usgs-<site>-<series>`.
"""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec

from app.epoch import micros
from app.errors import CommandError
from app.replay.series import Series
from app.replay.source import Collector, fault, number

# parameter code -> (metric, unit)
PARAMETERS = {
    "00010": ("temperature", "degC"),
    "00060": ("flow", "ft3/s"),
    "00065": ("stage", "ft"),
    "00095": ("specific_conductance", "uS/cm"),
    "00300": ("dissolved_oxygen", "mg/L"),
    "00301": ("dissolved_oxygen_saturation", "%"),
    "00400": ("ph", ""),
    "00480": ("salinity", "ppt"),
    "32316": ("chlorophyll", "ug/L"),
    "63680": ("turbidity", "FNU"),
}
# tz_cd -> hours from UTC
ZONES = {
    "UTC": 0, "GMT": 0,
    "AST": -4, "ADT": -3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5,
    "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8,
    "HST": -10, "HDT": -9, "SST": -11, "CHST": 10, "GST": 10,
}  # fmt: skip
OFFSETS = {name: timezone(timedelta(hours=hours)) for name, hours in ZONES.items()}
VALUE_COLUMN = re.compile(r"(\d+)_(\d{5})")
QUALIFIER = re.compile(r"[A-Za-z*_-]+")
REQUIRED = ("site_no", "datetime", "tz_cd")


class Header(msgspec.Struct, frozen=True):
    """One block's columns."""

    names: list[str]
    site: int
    time: int
    zone: int
    values: list[tuple[int, str, str, str]]
    """Position, suffix of the sensor's name, metric, unit."""


def read_rdb(path: Path, lines: list[str]) -> list[Series]:
    """All series of all sites in the file."""
    collector = Collector()
    header: Header | None = None
    widths_next = False
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        if text.startswith("#"):
            header = None
            continue
        cells = text.split("\t")
        if header is None:
            header = read_header(path, line, cells)
            widths_next = True
            continue
        if len(cells) != len(header.names):
            raise fault(path, line, f"{len(cells)} columns", f"{len(header.names)}")
        if widths_next:
            widths_next = False
            if re.fullmatch(r"\d+[sdn]", cells[0]) is None:
                raise fault(path, line, text, "the line of column widths (5s, 15s, …)")
            continue
        add_row(collector, header, path, line, cells)
    if not collector.columns:
        raise CommandError(
            f"{path}: line {len(lines)}: the end found, rows of a parameter we know expected"
            f" ({', '.join(PARAMETERS)})"
        )
    return collector.series()


def read_header(path: Path, line: int, cells: list[str]) -> Header:
    """Positions of the columns we need."""
    missing = [name for name in REQUIRED if name not in cells]
    if missing:
        raise fault(
            path, line, " ".join(cells), f"columns {', '.join(REQUIRED)} of instantaneous values"
        )
    values = []
    seen: set[str] = set()
    for position, name in enumerate(cells):
        match = VALUE_COLUMN.fullmatch(name)
        if match is None or match[2] not in PARAMETERS:
            continue
        metric, unit = PARAMETERS[match[2]]
        values.append((position, f"-{match[1]}" if metric in seen else "", metric, unit))
        seen.add(metric)
    site, time, zone = (cells.index(name) for name in REQUIRED)
    return Header(cells, site, time, zone, values)


def add_row(collector: Collector, header: Header, path: Path, line: int, cells: list[str]) -> None:
    """Collect the row's values."""
    offset = OFFSETS.get(cells[header.zone].strip().upper())
    if offset is None:
        raise fault(path, line, cells[header.zone], "a time zone such as PST or EDT in tz_cd")
    try:
        moment = datetime.fromisoformat(cells[header.time].strip())
    except ValueError:
        raise fault(path, line, cells[header.time], "a time such as 2020-06-01 00:15") from None
    ts = micros(moment.replace(tzinfo=offset))
    site = cells[header.site].strip()
    for position, suffix, metric, unit in header.values:
        text = cells[position].strip()
        if QUALIFIER.fullmatch(text):
            continue
        value = number(text, path, line, header.names[position])
        if value is not None:
            collector.add(
                sensor=f"usgs-{site}{suffix}", metric=metric, unit=unit, ts=ts, value=value
            )
