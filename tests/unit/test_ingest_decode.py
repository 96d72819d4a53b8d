"""Bodies to columns: what each form means, and that one bad reading costs only itself."""

import json
import random
from typing import Any

import numpy as np
import pytest

from app.errors import MalformedBody, TooManyReadings
from app.ingest.columns import Columns
from app.ingest.decode import decode_json, decode_lines
from app.ingest.flat import decode_flat
from app.ingest.limits import Limits

T = 1_700_000_000
US = 1_000_000
LIMITS = Limits(1_000)


def packed(document: Any) -> bytes:
    return json.dumps(document).encode()


def readings(columns: Columns) -> list[tuple[int, str, str, str | None, int, float]]:
    """(index, sensor, metric, unit, seconds after T, value), by index."""
    return sorted(
        (
            int(index),
            columns.sensors[sensor],
            *columns.channels[channel],
            int(ts) // US - T,
            float(value),
        )
        for index, sensor, channel, ts, value in zip(
            columns.index,
            columns.sensor_no,
            columns.channel_no,
            columns.ts,
            columns.value,
            strict=True,
        )
    )


def rejections(columns: Columns) -> list[tuple[int, str | None]]:
    return sorted((verdict.index, verdict.field) for verdict in columns.rejected)


def row(**changes: Any) -> dict[str, Any]:
    return {"sensor": "a", "ts": T, "metric": "ph", "value": 7} | changes


SERIES: dict[str, Any] = {
    "sensor": "a",
    "ts": [T, T + 1],
    "metrics": {"ph": [7, None], "temp": [20, 21]},
    "units": {"temp": "degC"},
}
SERIES_READINGS = [
    (0, "a", "ph", None, 0, 7),
    (2, "a", "temp", "degC", 0, 20),
    (3, "a", "temp", "degC", 1, 21),
]


def test_rows() -> None:
    columns = decode_json(packed([row(), row(sensor="b", unit="pH", value=-1.5, ts=T + 9)]), LIMITS)
    assert readings(columns) == [(0, "a", "ph", None, 0, 7), (1, "b", "ph", "pH", 9, -1.5)]


def test_one_row_and_rows_under_a_name() -> None:
    for document in (row(), [row()], {"readings": [row()]}, {"series": [row()]}):
        assert readings(decode_json(packed(document), LIMITS)) == [(0, "a", "ph", None, 0, 7)]


def test_columns_of_one_sensor_and_of_many() -> None:
    for document in (SERIES, [SERIES], {"series": [SERIES]}, {"readings": [SERIES]}):
        assert readings(decode_json(packed(document), LIMITS)) == SERIES_READINGS
    many = decode_json(packed({"series": [SERIES, SERIES | {"sensor": "b"}]}), LIMITS)
    assert readings(many) == [
        *SERIES_READINGS,
        (4, "b", "ph", None, 0, 7),
        (6, "b", "temp", "degC", 0, 20),
        (7, "b", "temp", "degC", 1, 21),
    ]


def test_columns_and_rows_may_be_mixed() -> None:
    columns = decode_json(packed([row(), SERIES, row(sensor="z")]), LIMITS)
    assert [reading[0:2] for reading in readings(columns)] == [
        (0, "a"), (1, "a"), (3, "a"), (4, "a"), (5, "z"),
    ]  # fmt: skip


def test_lines() -> None:
    body = packed(row()) + b"\n\n" + packed(SERIES) + b"\r\n"
    assert len(readings(decode_lines(body, LIMITS))) == 4
    assert len(readings(decode_lines(packed(row()) + b"\n" + packed(row()), LIMITS))) == 2


def test_a_broken_line_costs_only_itself() -> None:
    lines = [
        packed(row()),
        b'{"sensor":',
        b"\xff",
        b"[" * 100_000,
        b'"\\ud800"',
        packed(row(ts=T + 1)),
    ]
    columns = decode_lines(b"\n".join(lines), LIMITS)
    assert [reading[0] for reading in readings(columns)] == [0, 5]
    assert rejections(columns) == [(1, None), (2, None), (3, None), (4, None)]


def test_unknown_names_are_ignored() -> None:
    assert len(readings(decode_json(packed([row(firmware="1.2", nested={"a": [1]})]), LIMITS))) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sensor": None}, "sensor"),
        ({"sensor": 5}, "sensor"),
        ({"metric": None}, "metric"),
        ({"metric": ["ph"]}, "metric"),
        ({"unit": 5}, "unit"),
        ({"value": None}, "value"),
        ({"value": "7"}, "value"),
        ({"value": True}, "value"),
        ({"value": []}, "value"),
        ({"value": float("nan")}, "value"),
        ({"value": float("-inf")}, "value"),
        ({"value": 10**400}, "value"),
        ({"ts": None}, "ts"),
        ({"ts": True}, "ts"),
        ({"ts": "noon"}, "ts"),
        ({"ts": [T]}, "ts"),
        ({"ts": 10**400}, "ts"),
        ({"ts": float("nan")}, "ts"),
    ],
)
def test_a_bad_row_costs_only_itself_and_names_the_field(
    changes: dict[str, Any], field: str
) -> None:
    columns = decode_json(packed([row(), row(**changes), row(ts=T + 2)]), LIMITS)
    assert [reading[0] for reading in readings(columns)] == [0, 2]
    assert rejections(columns) == [(1, field)]


def test_1e400_is_no_finite_number() -> None:
    columns = decode_json(b'[{"sensor":"a","ts":1,"metric":"ph","value":1e400}]', LIMITS)
    assert rejections(columns) == [(0, "value")]


@pytest.mark.parametrize("element", [None, 5, "x", [], [[]], True])
def test_an_element_that_is_no_object_costs_only_itself(element: Any) -> None:
    columns = decode_json(packed([row(), element]), LIMITS)
    assert (len(columns.index), rejections(columns)) == (1, [(1, None)])


def test_a_bad_value_or_time_in_a_column_costs_only_itself() -> None:
    series = {
        "sensor": "a",
        "ts": [T, "noon", T + 2],
        "metrics": {"ph": [1, 2, "3"], "temp": [4, None, 6]},
    }
    columns = decode_json(packed(series), LIMITS)
    assert [reading[0] for reading in readings(columns)] == [0, 3, 5]
    assert rejections(columns) == [(1, "ts"), (2, "value")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics": {"ph": [1]}}, "has 1 values for 2 times; send null"),
        ({"metrics": {"ph": [1, 2, 3]}}, "has 3 values for 2 times"),
        ({"metrics": {"ph": 7}}, "must be a list"),
        ({"metrics": [7]}, "must be objects"),
        ({"units": ["pH"]}, "must be objects"),
        ({"units": {"ph": 5}}, "its unit text"),
        ({"ts": T}, "must be a list of times"),
        ({"sensor": None}, "sensor: is missing"),
    ],
)
def test_columns_of_the_wrong_shape_are_refused_whole(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(MalformedBody, match=why):
        decode_json(packed([SERIES | changes]), LIMITS)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no complete JSON"),
        (b'[{"sensor":"a"', "no complete JSON"),
        (packed([row()])[:-1], "no complete JSON"),
        (b"[1] [2]", "no complete JSON"),
        (b"7", "The body is a int"),
        (b"null", "The body is a NoneType"),
        (b'"text"', "The body is a str"),
        (b'[{"sensor":"\xff"}]', "not valid UTF-8"),
        (json.dumps([1]).encode("utf-16"), "not valid UTF-8"),
        (b'[{"sensor":"\\ud800"}]', "half of a surrogate pair"),
        (b'{"sensor":"a","ts":[1],"metrics":{"\\udfff":[]}}', "half of a surrogate pair"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"sensor":"a","x":' + b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5_000 + b"]", "thousands of digits"),
    ],
)
def test_what_is_no_list_of_readings_is_refused_whole(body: bytes, why: str) -> None:
    with pytest.raises(MalformedBody, match=why) as caught:
        decode_json(body, LIMITS)
    assert len(caught.value.detail) < 400


def test_100_levels_of_nesting_are_just_no_reading() -> None:
    assert rejections(decode_json(b"[" * 100 + b"]" * 100, LIMITS)) == [(0, None)]


def test_escapes_and_surrogate_pairs_are_text() -> None:
    columns = decode_json(
        b'[{"sensor":"\\u00e9\\ud83d\\ude00","ts":1,"metric":"ph","value":true}, 1]', LIMITS
    )
    assert rejections(columns) == [(0, "value"), (1, None)]
    assert decode_json(packed([row(sensor="é😀"), 1]), LIMITS).sensors == ["é😀"]


def test_a_byte_order_mark_is_skipped() -> None:
    assert len(decode_json(b"\xef\xbb\xbf" + packed([row()]), LIMITS).index) == 1


def test_of_duplicate_names_the_last_counts_on_both_roads() -> None:
    body = b'{"sensor":"a","ts":1,"metric":"ph","value":1,"value":2}'
    assert decode_json(body, LIMITS).value.tolist() == [2]
    assert decode_json(b"[" + body + b",0]", LIMITS).value.tolist() == [2]


TOO_MANY = {
    "rows": [row()] * 1_001,
    "columns": {"sensor": "a", "ts": [T] * 501, "metrics": {"ph": [1] * 501, "temp": [1] * 501}},
    "many sensors": [SERIES] * 300,
    "nulls": {"sensor": "a", "ts": [T] * 1_001, "metrics": {"ph": [None] * 1_001}},
    "metrics without values": {
        "sensor": "a",
        "ts": [],
        "metrics": {str(i): [] for i in range(1_001)},
    },
    "sensors without values": [{"sensor": "a", "ts": [], "metrics": {}}] * 1_001,
    "rubbish": [0] * 1_001,
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_more_readings_than_the_limit_are_refused_on_both_roads(name: str) -> None:
    document = TOO_MANY[name]
    lenient = [*document, 0] if isinstance(document, list) else [document, 0]
    for body in (document, lenient):
        with pytest.raises(TooManyReadings):
            decode_json(packed(body), LIMITS)
    lines = document if isinstance(document, list) else [document]
    with pytest.raises(TooManyReadings):
        decode_lines(b"\n".join(packed(line) for line in lines), LIMITS)


def test_the_limit_itself_passes() -> None:
    assert len(decode_json(packed([row()] * 1_000), LIMITS).index) == 1_000


# The older design's form


def flat(document: Any, now: int = T * US) -> Columns:
    return decode_flat(packed(document), LIMITS, now)


def test_flat_object_is_as_old_as_its_arrival() -> None:
    columns = flat({"sensor_id": "123", "pH": 7.2, "temp": 15.4})
    assert readings(columns) == [(0, "123", "pH", None, 0, 7.2), (1, "123", "temp", None, 0, 15.4)]


def test_flat_list_times_units_and_numbers_as_ids() -> None:
    columns = flat(
        [
            {"sensor_id": 123, "ts": T + 1, "pH": 7},
            {
                "sensor_id": "b",
                "timestamp": "2023-11-14T22:13:22Z",
                "temp": 59,
                "units": {"temp": "degF"},
            },
            {"sensor_id": "c", "time": T + 3, "pH": 6},
        ]
    )
    assert readings(columns) == [
        (0, "123", "pH", None, 1, 7),
        (1, "b", "temp", "degF", 2, 59),
        (2, "c", "pH", None, 3, 6),
    ]


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (7, [(0, None)]),
        ({"sensor_id": "a"}, [(0, None)]),
        ({"pH": 7}, [(0, "sensor_id")]),
        ({"sensor_id": [], "pH": 7}, [(0, "sensor_id")]),
        ({"sensor_id": True, "pH": 7}, [(0, "sensor_id")]),
        ({"sensor_id": "a", "pH": "7"}, [(0, "pH")]),
        ({"sensor_id": "a", "ts": "noon", "pH": 7, "temp": 8}, [(0, "ts"), (1, "ts")]),
        ({"sensor_id": "a", "pH": 7, "units": {"pH": 5}}, [(0, "units")]),
        ({"sensor_id": "a", "pH": None}, [(0, "pH")]),
    ],
)
def test_flat_rejections_name_the_field(
    element: Any, expected: list[tuple[int, str | None]]
) -> None:
    assert rejections(flat([element])) == expected


def test_flat_has_the_same_limit() -> None:
    for document in ([0] * 1_001, [{"sensor_id": "a", "pH": 1, "temp": 2}] * 501, [{}] * 1_001):
        with pytest.raises(TooManyReadings):
            flat(document)


# Both roads, against each other and against chance


def test_the_lenient_road_says_the_same_as_the_fast_one() -> None:
    document = [
        row(ts=T + i, sensor=f"s{i % 3}", unit=[None, "pH"][i % 2], value=i / 7) for i in range(50)
    ]
    fast, lenient = (
        decode_json(packed(document), LIMITS),
        decode_json(packed([*document, 0]), LIMITS),
    )
    assert readings(fast) == readings(lenient)
    fast, lenient = decode_json(packed([SERIES]), LIMITS), decode_json(packed([SERIES, 0]), LIMITS)
    assert readings(fast) == readings(lenient)


WORDS = [
    "sensor",
    "ts",
    "metric",
    "value",
    "unit",
    "metrics",
    "units",
    "series",
    "readings",
    "sensor_id",
]
LEAVES: list[Any] = [
    None, True, 0, -1, 7.5, T, T * 1000, 10**30, float("nan"), float("inf"), "", "a", "ph", "mg/L",
    "2026-11-21T02:00:00Z", "\0", "é", "x" * 300,
]  # fmt: skip


def chance(random: random.Random, depth: int = 0) -> Any:
    """A document that resembles a body often enough to get somewhere."""
    kind = random.random()
    if depth > 4 or kind < 0.35:
        return random.choice(LEAVES)
    if kind < 0.55:
        return [chance(random, depth + 1) for _ in range(random.randrange(4))]
    if kind < 0.75:
        return row(**{random.choice(WORDS): chance(random, depth + 1)})
    if kind < 0.85:
        return SERIES | {random.choice(WORDS): chance(random, depth + 1)}
    return {random.choice(WORDS): chance(random, depth + 1) for _ in range(random.randrange(5))}


def test_random_documents_end_in_columns_or_in_a_problem() -> None:
    generator = random.Random(2)
    refused = 0
    for _ in range(5_000):
        document = chance(generator)
        body = packed(document)
        if generator.random() < 0.2:
            at = generator.randrange(len(body))
            body = body[:at] + generator.randbytes(generator.randrange(3)) + body[at + 1 :]
        for decode in (
            decode_json,
            decode_lines,
            lambda body, limits: decode_flat(body, limits, 0),
        ):
            try:
                columns = decode(body, LIMITS)
            except (MalformedBody, TooManyReadings) as exc:
                refused += 1
                assert len(exc.detail) < 500, body
                continue
            indexes = columns.index.tolist() + [verdict.index for verdict in columns.rejected]
            assert len(set(indexes)) == len(indexes), body
            assert np.isfinite(columns.value).all(), body
    assert 1_000 < refused < 12_000
