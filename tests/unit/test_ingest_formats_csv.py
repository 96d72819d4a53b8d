"""CSV bodies: both forms of table, and what is no CSV."""

import pytest
from fix_columns import CSV, LIMITS, LONG, readings, refusals

from app.errors import MalformedBody, TooManyReadings
from app.ingest.csv_body import decode_csv
from app.ingest.limits import Limits


@pytest.mark.parametrize(
    "text",
    [
        CSV, CSV.replace("\n", "\r\n"), "\ufeff" + CSV, CSV.strip(), CSV.replace("\na", '\n"a"'),
        CSV.replace("\n", "\n\n").replace("\n\n", "\n", 1), CSV.replace("sensor,ts", " Sensor,TS"),
        CSV.replace("1700000000", "2023-11-14T22:13:20Z")
        .replace("1700000001", "2023-11-14T22:13:21.000Z")
        .replace("1700000002", "2023-11-14T23:13:22+01:00"),
    ],
)  # fmt: skip
def test_csv(text: str) -> None:
    assert readings(decode_csv(text.encode(), LIMITS)) == LONG


def test_csv_of_the_wide_form() -> None:
    text = (
        "sensor,ts,ph,temperature [degF]\n"
        "a,2023-11-14T22:13:20Z,7.5,60\n"
        "b,2023-11-14T22:13:21Z,,61\n"
    )
    assert readings(decode_csv(text.encode(), LIMITS)) == [
        ("a", "ph", None, 7.5, 0, 0),
        ("a", "temperature", "degF", 60.0, 0, 2),
        ("b", "temperature", "degF", 61.0, 1, 3),
    ]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (",1700000000,ph,7", "sensor"), ("a,,ph,7", "ts"), ("a,1700000000,,7", "metric"),
        ("a,1700000000,ph,", "value"), ("a,1700000000,ph,abc", "value"), ("a,1700000000,ph,nan", "value"),
        ("a,1700000000,ph,1e999", "value"), ("a,1700000000,ph,1_0", "value"), ("a,1700000000,ph", "row"),
        ("a,1700000000,ph,7,8", "row"), ("a,2023-11-14 22:13:20,ph,7", "ts"),
        ("a,1700000000000,ph,7", "ts"),
        ("a,yesterday,ph,7", "ts"), ("a,1700000000,ph,0x7", "value"),
    ],
)  # fmt: skip
def test_a_bad_csv_row_costs_only_itself(row: str, field: str) -> None:
    head, first, rest = CSV.split("\n", 2)
    columns = decode_csv(f"{head}\n{first}\n{row}\n{rest}".encode(), LIMITS)
    assert columns.value.tolist() == [7.5, 8.0, 20.0]
    assert columns.index.tolist() == [0, 2, 3]
    assert [(index, name) for index, name, _ in refusals(columns)] == [(1, field)]


def test_odd_rows_move_the_index_of_wide_tables() -> None:
    text = "sensor,ts,ph,temp\n1,2\na,1700000000,7,x\na,1,2,3,4,5\na,1700000001,8,9\n"
    columns = decode_csv(text.encode(), LIMITS)
    assert columns.index.tolist() == [1, 3, 7]
    assert [(index, name) for index, name, _ in refusals(columns)] == [
        (0, "row"),
        (2, "row"),
        (5, "value"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n", b"a", b"sensor,ts\n1,2\n", b"\xff\xfe\n", b"sensor,ts,metric,value\n\xff,1,ph,1\n",
        b'sensor,"ts\n",metric,value\na,1,ph,1\n', b"sensor;ts;metric;value\na;1;ph;1\n",
        b"sensor,ts,ph,ph\na,1,2,3\n", b"sensor,ts," + b"," * 70_000,
        b"sensor,ts," + ",".join(f"m{i}" for i in range(2_000)).encode() + b"\n",
    ],
)  # fmt: skip
def test_bodies_that_are_no_csv(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_csv(body, LIMITS)


def test_csv_without_rows_and_with_too_many() -> None:
    assert not len(decode_csv(b"sensor,ts,metric,value\n", LIMITS).index)
    with pytest.raises(TooManyReadings):
        decode_csv(CSV.encode(), Limits(2))
    only_odd = decode_csv(b"sensor,ts,metric,value\n1\n2,3\n", LIMITS)
    assert len(only_odd.rejected) == 2 and not len(only_odd.index)
