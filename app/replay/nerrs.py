"""Estuary stations of the National Estuarine Research Reserve System (NERRS), two CSV forms.

`read_converted`: one station a file, named after it; `datetime_utc`, then variables, each with an
`f_` column of quality flags. `read_export`: the data office's (CDMO) own export, several stations
a file, `StationCode` and `DateTimeStamp` in local standard time, which the file does not tell.

Every value that is present is returned, also rejected and suspect ones: a sensor would have sent
it, and judging it is the server's work. `cdepth` and `clevel` are computed by the office, not
measured, and are left out.
"""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from app.epoch import micros
from app.errors import CommandError
from app.replay.series import Series
from app.replay.source import Collector, fault, number

# column in lower case -> (metric, unit)
VARIABLES = {
    "temp": ("temperature", "degC"),
    "spcond": ("specific_conductance", "mS/cm"),
    "sal": ("salinity", "PSU"),
    "do_pct": ("dissolved_oxygen_saturation", "%"),
    "do_mgl": ("dissolved_oxygen", "mg/L"),
    "depth": ("depth", "m"),
    "level": ("stage", "m"),
    "ph": ("ph", ""),
    "turb": ("turbidity", "FNU"),
    "chlfluor": ("chlorophyll", "ug/L"),
}
US_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2})(?::(\d{2}))?")


def read_converted(path: Path, lines: list[str]) -> list[Series]:
    """The file named `<station>.csv` or `<station>.csv.gz`."""
    sensor = f"nerrs-{path.name.partition('.')[0].lower()}"
    header, rows = table(path, lines)
    collector = Collector()
    for line, row in rows:
        ts = iso_time(row[header["datetime_utc"]], path, line)
        add_row(collector, sensor, ts, row, header=header, path=path, line=line)
    return collector.series()


def read_export(path: Path, lines: list[str], utc_offset: float | None) -> list[Series]:
    """The office's export; `utc_offset` is the stations' standard time in hours."""
    if utc_offset is None:
        raise CommandError(
            f"{path}: its times are local standard time: say which with --utc-offset HOURS"
            " (-5 for US Eastern, -6 Central, -8 Pacific)"
        )
    zone = timezone(timedelta(hours=utc_offset))
    header, rows = table(path, lines)
    collector = Collector()
    for line, row in rows:
        station = row[header["stationcode"]].strip().lower()
        if not station:
            raise fault(path, line, station, "a station code")
        ts = us_time(row[header["datetimestamp"]], zone, path, line)
        add_row(collector, f"nerrs-{station}", ts, row, header=header, path=path, line=line)
    return collector.series()


def header_columns(line: str) -> list[str]:
    """Column names in lower case, tolerant of spaces and quotes."""
    return [name.strip().strip('"').strip().lower() for name in line.split(",")]


def table(path: Path, lines: list[str]) -> tuple[dict[str, int], Iterator[tuple[int, list[str]]]]:
    """Column positions, and the rows with their line numbers, blank ones left out."""
    first = next(number for number, line in enumerate(lines) if line.strip())
    names = header_columns(lines[first])
    header = {name: position for position, name in enumerate(names)}
    if not header.keys() & VARIABLES.keys():
        raise fault(path, first + 1, lines[first], "a variable such as temp, sal or do_mgl")

    def rows() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(lines[first + 1 :])
        try:
            for row in reader:
                line = first + 1 + reader.line_num
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(names):
                    raise fault(path, line, f"{len(row)} columns", f"{len(names)}")
                yield line, row
        except csv.Error as exc:
            raise CommandError(f"{path}: line {first + 1 + reader.line_num}: {exc}") from None

    return header, rows()


def add_row(
    collector: Collector,
    sensor: str,
    ts: int,
    row: list[str],
    *,
    header: dict[str, int],
    path: Path,
    line: int,
) -> None:
    """Collect the row's values."""
    for column, (metric, unit) in VARIABLES.items():
        position = header.get(column)
        if position is None:
            continue
        value = number(row[position], path, line, column)
        if value is not None:
            collector.add(sensor=sensor, metric=metric, unit=unit, ts=ts, value=value)


def iso_time(text: str, path: Path, line: int) -> int:
    """2012-01-31 23:45:00, in UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise fault(path, line, text, "a time such as 2012-01-31 23:45:00") from None
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def us_time(text: str, zone: timezone, path: Path, line: int) -> int:
    """1/31/2012 23:45, in the given zone."""
    match = US_TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError(text)
        month, day, year, hour, minute, second = (int(part or 0) for part in match.groups())
        moment = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        raise fault(path, line, text, "a time such as 1/31/2012 23:45") from None
    return micros(moment)
