"""Which reader a file needs is seen in its first lines, not in its name."""

from collections.abc import Iterable
from pathlib import Path

from app.replay.nerrs import header_columns, read_converted, read_export
from app.replay.series import Series
from app.replay.source import fault, read_lines
from app.replay.usgs import read_rdb

FORMATS = (
    "NERRS CSV (datetime_utc,temp,…), CDMO export (StationCode,…,DateTimeStamp,…)"
    " or USGS RDB (# comments, agency_cd…)"
)


def read_file(path: Path, *, utc_offset: float | None = None) -> list[Series]:
    """All series of a file; CommandError where the file is not one we read."""
    lines = read_lines(path)
    first, text = next(
        ((line, text) for line, text in enumerate(lines, start=1) if text.strip()), (1, "")
    )
    if text.startswith("#") or text.startswith("agency_cd\t"):
        return read_rdb(path, lines)
    names = set(header_columns(text))
    if "datetime_utc" in names:
        return read_converted(path, lines)
    if {"stationcode", "datetimestamp"} <= names:
        return read_export(path, lines, utc_offset)
    raise fault(path, first, text.strip(), FORMATS)


def read_files(paths: Iterable[Path], *, utc_offset: float | None = None) -> list[Series]:
    """All series of all files, in the order given."""
    return [one for path in paths for one in read_file(path, utc_offset=utc_offset)]
