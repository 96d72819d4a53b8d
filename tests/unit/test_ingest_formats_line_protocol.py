"""Influx line protocol: the grammar's corners, and that both roads mean the same."""

import random

import numpy as np
import pytest

from app.errors import TooManyReadings
from app.ingest.columns import Columns
from app.ingest.limits import Limits
from app.ingest.line_protocol import _careful, decode_line_protocol
from app.ingest.lines import columns_of

LIMITS = Limits(1_000, "ns")
NOW = 1_800_000_000_000_000
T = 1_700_000_000


def decoded(text: str | bytes, limits: Limits = LIMITS) -> Columns:
    body = text.encode() if isinstance(text, str) else text
    return decode_line_protocol(body, limits, NOW)


def readings(columns: Columns) -> list[tuple[str, str, str | None, float, int, int]]:
    """(sensor, metric, unit, value, ts, line)."""
    return [
        (columns.sensors[s], *columns.channels[c], v, t, i)
        for s, c, v, t, i in zip(
            columns.sensor_no, columns.channel_no, columns.value.tolist(), columns.ts.tolist(),
            columns.index.tolist(), strict=True,
        )
    ]  # fmt: skip


def refusals(columns: Columns) -> list[tuple[int, str | None, str | None]]:
    return [(verdict.index, verdict.field, verdict.reason) for verdict in columns.rejected]


def test_fields_are_readings_of_the_tagged_sensor() -> None:
    columns = decoded(f"water,sensor=r1,unit=degF temp=59.7,low=1 {T}000000000")
    assert readings(columns) == [
        ("r1", "temp", "degF", 59.7, T * 1_000_000, 1),
        ("r1", "low", "degF", 1.0, T * 1_000_000, 1),
    ]


def test_a_field_called_value_is_the_measurement() -> None:
    assert readings(decoded("ph,sensor=r1 value=7.2"))[0][:4] == ("r1", "ph", None, 7.2)


@pytest.mark.parametrize(
    ("tags", "sensor"),
    [
        ("sensor=a,sensor_id=b,device=c,host=d", "a"),
        ("host=d,device=c,sensor_id=b", "b"),
        ("host=d,device=c", "c"),
        ("host=d", "d"),
    ],
)
def test_the_sensor_tag_and_its_stand_ins(tags: str, sensor: str) -> None:
    assert decoded(f"ph,{tags} value=7").sensors == [sensor]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"my\ water\,x,sensor=r1 value=1", ("r1", "my water,x", 1.0)),
        (r"m,sensor=river\ 1\,left\=a f=1", ("river 1,left=a", "f", 1.0)),
        (r"m,s\ x=1,sensor=r1 pH\ water\,a\=b=1", ("r1", "pH water,a=b", 1.0)),
        (r"m,sensor=a\b f=1", (r"a\b", "f", 1.0)),
        (r"m,sensor=a\\b f=1", (r"a\\b", "f", 1.0)),
        (r"a=b,sensor=r1 value=1", ("r1", "a=b", 1.0)),
        (r"m,sensor=r1 f=1,s=2", ("r1", "f", 1.0)),
        ('"m",sensor="r1" "f"=1', ('"r1"', '"f"', 1.0)),
        ("m,sensor=Mühle f=1", ("Mühle", "f", 1.0)),
    ],
)
def test_escapes(line: str, expected: tuple[str, str, float]) -> None:
    sensor, metric, _, value, _, _ = readings(decoded(line))[0]
    assert (sensor, metric, value) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0), ("-1.5", -1.5), ("+1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0),
        ("-1.234456e+78", -1.234456e78), ("1E-3", 0.001), ("42i", 42.0), ("-42i", -42.0), ("42u", 42.0),
        ("-9223372036854775808i", -(2.0**63)), ("18446744073709551615u", 2.0**64), ("-0", -0.0),
    ],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    for body in (f"m,sensor=a f={text}", f"m,sensor=a f={text}\n" * 200):
        columns = decoded(body)
        assert columns.value[-1] == value and not columns.rejected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"text"', "is text"), (r'"a \" b, c=d \\"', "is text"), ("true", "boolean"), ("F", "boolean"),
        ("1e999", "finite"), ("9223372036854775808i", "64 bits"),
    ],
)  # fmt: skip
def test_a_field_that_is_no_number_costs_only_itself(text: str, reason: str) -> None:
    columns = decoded(f"m,sensor=a bad={text},ph=7")
    assert [reading[1] for reading in readings(columns)] == ["ph"]
    ((line, field, why),) = refusals(columns)
    assert (line, field) == (1, "bad") and why is not None and reason in why


@pytest.mark.parametrize(
    "line",
    [
        "m", "m,sensor=a", "m,sensor=a ", ",sensor=a f=1", "m,sensor=a f", "m,sensor=a f=",
        "m,sensor=a =1", "m,sensor=a f=abc", "m,sensor=a f=1 12x", "m,sensor=a f=1 1 2", "m,sensor f=1",
        "m,sensor= f=1", "m,sensor=a,sensor=b f=1", "m,=a f=1", "m,sensor=a=b f=1", 'm,sensor=a f="x',
        'm,sensor=a f="x"y', "m,sensor=a f=1,", "m,sensor=a f=1i2", "m,sensor=a f=nan",
        "m,sensor=a f=1_0",
        "m,sensor=a f=0x10", "m,sensor=a f=-5u", "m,sensor=a f=1.5i", "m,sensor=a\tf=1", "\\",
        "m,sensor=a\\",
        "m,sensor=a f=1 99999999999999999999", "m,sensor=a f=1 1.5", "m,,sensor=a f=1", "m,sensor=a,f=1",
        "m,sensor=a f=1e", "m,sensor=a f=-", "m,sensor=a f=1 9223372036854775807000",
    ],
)  # fmt: skip
def test_a_broken_line_costs_only_itself(line: str) -> None:
    columns = decoded(f"m,sensor=a f=1\n{line}\nm,sensor=a f=3")
    assert [reading[3::2] for reading in readings(columns)] == [(1.0, 1), (3.0, 3)]
    ((number, field, _),) = refusals(columns)
    assert (number, field) == (2, "line")


def test_bytes_that_are_no_utf_8_cost_only_their_line() -> None:
    columns = decoded(b"m,sensor=\xff f=1\nm,sensor=a \xfff=1\nm,sensor=a f=\xff\nm,sensor=a f=3")
    assert len(columns.index) == 1
    assert [number for number, _, _ in refusals(columns)] == [1, 2, 3]


def test_a_line_without_a_sensor_says_which_tags_would_do() -> None:
    ((_, field, reason),) = refusals(decoded("m f=1"))
    assert field == "sensor" and reason == (
        "no tag names it; add one of sensor, sensor_id, device, host"
    )


def test_comments_blank_lines_and_spaces() -> None:
    body = "# m,sensor=a f=1\n\n  m,sensor=a   f=2   17   \r\n\n   # x\nm,sensor=a f=3 18\n"
    assert [r[3:] for r in readings(decoded(body, Limits(9, "s")))] == [
        (2.0, 17_000_000, 3),
        (3.0, 18_000_000, 6),
    ]


@pytest.mark.parametrize(("precision", "unit"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_precision(precision: str, unit: float) -> None:
    line = f"m,sensor=a f=1 {T * int(unit)}\n"
    for body in (line, line * 100):
        assert decoded(body, Limits(1_000, precision)).ts[0] == T * 1_000_000


def test_without_a_time_it_is_the_arrival() -> None:
    for body in ("m,sensor=a f=1\n", "m,sensor=a f=1\n" * 300):
        assert set(decoded(body).ts.tolist()) == {NOW}
    assert decoded("m,sensor=a f=1\nm,sensor=a f=1 7000\n").ts.tolist() == [NOW, 7]


def test_a_time_of_another_precision_is_refused() -> None:
    columns = decoded(f"m,sensor=a f=1 {T}000000000\nm,sensor=a f=2 {T}", Limits(9, "s"))
    assert columns.value.tolist() == [2.0]
    ((number, field, reason),) = refusals(columns)
    assert (number, field) == (1, "line") and reason is not None and "no epoch time in s" in reason


def test_times_before_1970_and_at_the_edge_of_64_bits() -> None:
    edge = (1 << 63) - 1
    for times in (1, 200):
        body = f"m,sensor=a f=1 -1500\nm,sensor=a f=1 {edge}\n" * times
        assert decoded(body).ts[:2].tolist() == [-2, edge // 1000]
        beyond = decoded(f"m,sensor=a f=1 {edge + 1}\n" * times)
        assert beyond.ts.tolist() == [(edge + 1) // 1000] * times


def test_too_many_readings() -> None:
    with pytest.raises(TooManyReadings):
        decoded("m,sensor=a f=1,g=2\n" * 501)
    with pytest.raises(TooManyReadings):
        decoded("#\n" + "m,sensor=a f=1,g=2\n" * 501)
    with pytest.raises(TooManyReadings):
        decoded("x\n" * 1_001)


def test_an_empty_body_has_no_reading() -> None:
    columns = decoded("")
    assert not len(columns.index) and not columns.rejected


def random_line(dice: random.Random) -> str:
    name = dice.choice(["ph", "turbidity", "value", "x.y", "é", "#"])
    number = dice.choice(
        [f"{dice.uniform(-50, 50):.{dice.randrange(9)}f}", f"{dice.randrange(99)}i", "1e3"]
    )
    tags = dice.sample(["host=gw", "sensor=s1", "sensor=s2", "unit=degF", "device=d", "x=#"], 2)
    fields = ",".join([f"{name}={number}"] * dice.choice([1, 1, 2]))
    return f"{dice.choice('ab')},{','.join(tags)} {fields} {dice.randrange(10**18)}"


def test_both_roads_agree() -> None:
    dice = random.Random(3)
    odd = ["m,sensor=a f=t", "m,sensor=a f=1  5", "m,sensor=a f=nan 5", "m,sensor=a f 5", "", "#",
           "m,sensor=a f=1_0 5", "m,sensor=a f=1 5_0", "m,sensor=a 1=2=3,4 5", "m,sensor=a f=1,=2 5",
           "m,sensor=a f=\v1 5", "m,sensor=a f=1 -", "m,sensor f=1 5", "m,sensor=a f=+1 +5",
           "m,sensor=a f=1,g 5\nm,sensor=a =2 5", "m,sensor=a f=1 00000000000000000005"]  # fmt: skip
    quick = 0
    for _ in range(400):
        lines = [random_line(dice) for _ in range(dice.randrange(1, 30))]
        if dice.random() < 0.5:
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(odd))
        body = "\n".join(lines).encode() + b"\n" * dice.randrange(2)
        fast, careful = columns_of(body, LIMITS, NOW), _careful(body, LIMITS, NOW)
        if fast is None:
            continue
        quick += 1
        assert readings(fast) == readings(careful), body
        assert refusals(fast) == refusals(careful) == []
        assert fast.sensor_no.dtype == careful.sensor_no.dtype == np.int32
        assert len(set(fast.channels)) == len(fast.channels)
    assert quick > 30
