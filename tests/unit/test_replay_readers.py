"""The readers: what they take from each format, and how they refuse what they can't read."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.epoch import micros
from app.errors import CommandError
from app.paths import ROOT
from app.replay.readers import read_file, read_files
from app.replay.series import Series, count

DATASETS = ROOT / "bench" / "datasets"
NERRS = "datetime_utc,temp,f_temp,spcond,f_spcond,cdepth,f_cdepth\n"
CDMO = "StationCode,isSWMP,DateTimeStamp,F_Record,Temp,F_Temp,pH,F_pH\n"
RDB = (
    "# comment\n"
    "agency_cd\tsite_no\tdatetime\ttz_cd\t11_00010\t11_00010_cd\t12_00065\t12_00065_cd\n"
    "5s\t15s\t20d\t6s\t14n\t10s\t14n\t10s\n"
)


def make_file(folder: Path, text: str | bytes, name: str = "abcwq.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def at(*moment: int) -> int:
    """A UTC time in microseconds."""
    year, month, day, *rest = moment
    return micros(datetime(year, month, day, *rest, tzinfo=UTC))  # type: ignore[misc,arg-type]


def by_metric(series: list[Series]) -> dict[str, tuple[str, str, list[int], list[float]]]:
    """Series as plain values."""
    return {
        one.metric: (one.sensor, one.unit, one.ts.tolist(), one.values.tolist()) for one in series
    }


def test_converted_csv_keeps_values_of_every_flag_and_skips_empty_ones(tmp_path: Path) -> None:
    text = NERRS + (
        "2012-01-01 05:00:00,16.9,<0>,45.97,<0>,1.1,<3>\n"
        "2012-01-01 05:15:00,-99.0,<-3> [SSD],,<-2>,1.1,<3>\n"
        "\n"
    )
    first, second = at(2012, 1, 1, 5), at(2012, 1, 1, 5, 15)
    assert by_metric(read_file(make_file(tmp_path, text, "abcwq.csv"))) == {
        "temperature": ("nerrs-abcwq", "degC", [first, second], [16.9, -99.0]),
        "specific_conductance": ("nerrs-abcwq", "mS/cm", [first], [45.97]),
    }


def test_gzip_is_seen_in_the_content_and_rows_are_put_in_time_order(tmp_path: Path) -> None:
    text = NERRS + "2012-01-02 00:00:00,2,,,,,\n2012-01-01 00:00:00,1,,,,,\n"
    path = make_file(tmp_path, gzip.compress(text.encode()), "AbcWQ.csv.gz")
    assert by_metric(read_file(path))["temperature"][:1] == ("nerrs-abcwq",)
    assert by_metric(read_file(path))["temperature"][3] == [1.0, 2.0]


def test_cdmo_export_is_local_standard_time_with_spaces_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    text = "\ufeff" + CDMO + (
        "gndblwq   ,P,7/2/2021 0:00,,30.7,<0> ,6.9,<0> \r\n"
        "gndcrwq   ,P,12/31/2021 23:45,,,<-2> ,7.0,<0> \r\n"
    )  # fmt: skip
    series = read_file(make_file(tmp_path, text), utc_offset=-6)
    assert [(one.sensor, one.metric, one.ts.tolist()) for one in series] == [
        ("nerrs-gndblwq", "temperature", [at(2021, 7, 2, 6)]),
        ("nerrs-gndblwq", "ph", [at(2021, 7, 2, 6)]),
        ("nerrs-gndcrwq", "ph", [at(2022, 1, 1, 5, 45)]),
    ]


def test_cdmo_export_without_an_offset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--utc-offset"):
        read_file(make_file(tmp_path, CDMO + "a,P,7/2/2021 0:00,,1,,7,\n"))


def test_rdb_takes_the_zone_of_each_row_and_skips_qualifiers(tmp_path: Path) -> None:
    text = RDB + (
        "USGS\t11\t2020-11-01 01:30\tPDT\t16.1\tP\t3.5\tP\n"
        "USGS\t11\t2020-11-01 01:30\tPST\tIce\tP\t\t\n"
        "USGS\t11\t2020-11-01 01:45\tPST\t***\tP\tEqp\tP\n"
        "USGS\t11\t2020-11-01 02:00\tPST\t16.0\tP\t3.4\tP\n"
    )
    pdt, later = at(2020, 11, 1, 8, 30), at(2020, 11, 1, 10)
    assert by_metric(read_file(make_file(tmp_path, text, "x.txt"))) == {
        "temperature": ("usgs-11", "degC", [pdt, later], [16.1, 16.0]),
        "stage": ("usgs-11", "ft", [pdt, later], [3.5, 3.4]),
    }


def test_rdb_second_series_of_a_parameter_and_second_site(tmp_path: Path) -> None:
    text = (
        "agency_cd\tsite_no\tdatetime\ttz_cd\t11_00010\t22_00010\n5s\t15s\t20d\t6s\t14n\t14n\n"
        "USGS\t11\t2020-06-01 00:00\tEST\t1\t2\n"
        "# next site\n"
        "agency_cd\tsite_no\tdatetime\ttz_cd\t33_00400\n5s\t15s\t20d\t6s\t14n\n"
        "USGS\t12\t2020-06-01 00:00\tCDT\t7\n"
    )
    series = read_file(make_file(tmp_path, text, "x.rdb"))
    assert [(one.sensor, one.metric, one.values.tolist()) for one in series] == [
        ("usgs-11", "temperature", [1.0]),
        ("usgs-11-22", "temperature", [2.0]),
        ("usgs-12", "ph", [7.0]),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: '' found, NERRS CSV"),
        ("\n\na,b,c\n1,2,3\n", "line 3: 'a,b,c' found, NERRS CSV"),
        ("%PDF-1.7", "line 1: '%PDF-1.7' found"),
        (NERRS + "2012-01-01 00:00:00,x,,,,,\n", "line 2: 'x' found, a number in column temp"),
        (NERRS + "2012-01-01 00:00:00,inf,,,,,\n", "line 2: 'inf' found, a number"),
        (NERRS + "\n2012-13-01 00:00:00,1,,,,,\n", "line 3: '2012-13-01 00:00:00' found, a time"),
        (NERRS + "2012-01-01 00:00:00,1\n", "line 2: '2 columns' found, 7 expected"),
        ("datetime_utc,a\n", "line 1: 'datetime_utc,a' found, a variable"),
        (RDB + "USGS\t1\t2020-06-01 00:00\tXXT\t1\t\t1\t\n", "line 4: 'XXT' found, a time zone"),
        (RDB + "USGS\t1\t2020-06-01\n", "line 4: '3 columns' found, 8 expected"),
        (RDB + "USGS\t1\tyesterday\tPST\t1\t\t1\t\n", "line 4: 'yesterday' found, a time"),
        (RDB + "USGS\t1\t2020-06-01 00:00\tPST\t1,5\t\t\t\n", "'1,5' found, a number in column 11"),
        ("# nothing else\n", "the end found, rows"),
        ("#\nagency_cd\tsite_no\tdatetime\t1_00010_00003\n", "instantaneous values"),
    ],
)
def test_a_faulty_file_is_refused_with_file_line_and_expectation(
    tmp_path: Path, text: str, message: str
) -> None:
    path = make_file(tmp_path, text)
    with pytest.raises(CommandError) as refusal:
        read_file(path)
    assert str(refusal.value).startswith(f"{path}: line ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(NERRS.encode() * 100)
    with pytest.raises(CommandError, match="No such file"):
        read_file(tmp_path / "none.csv")
    with pytest.raises(CommandError, match="directory"):
        read_file(tmp_path)
    with pytest.raises(CommandError, match="damaged or cut short"):
        read_file(make_file(tmp_path, whole[:-20]))
    with pytest.raises(CommandError, match=r"damaged|CRC|Error"):
        read_file(make_file(tmp_path, whole[:20] + b"\xff\xff" + whole[22:]))


def test_the_bundled_files_hold_what_their_readme_says() -> None:
    readme = (DATASETS / "README.md").read_text()
    paths = sorted(DATASETS.glob("*.gz"))
    assert len(paths) == 5
    for path in paths:
        series = read_files([path], utc_offset=-6)
        start = min(int(one.ts[0]) for one in series) / 1e6
        end = max(int(one.ts[-1]) for one in series) / 1e6
        (row,) = (line for line in readme.splitlines() if line.startswith(f"| `{path.name}`"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert {one.sensor for one in series} == {cells[1]}
        assert cells[3:] == [
            f"{count(series):,}",
            f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M}",
            f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M}",
        ]
