"""Arrow, Parquet and CSV bodies: both forms of table, every type, and hostile files."""

import random
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_columns import CSV, LIMITS, LONG, US, T, readings, refusals

from app.errors import BodyTooLarge, MalformedBody, Problem, TooManyReadings
from app.ingest.arrow import decode_arrow
from app.ingest.columns import Columns
from app.ingest.csv_body import decode_csv
from app.ingest.limits import Limits
from app.ingest.parquet import decode_parquet

UTC = pa.timestamp("us", "UTC")
Decode = Callable[[bytes, Limits], Columns]


def stream(table: pa.Table, *, chunk: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    settings = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=settings) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return bytes(sink.getvalue())


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


BINARY = [(decode_arrow, stream), (decode_parquet, parquet)]
both = pytest.mark.parametrize(("decode", "pack"), BINARY, ids=["arrow", "parquet"])


def table(**columns: Any) -> pa.Table:
    whole = {
        "sensor": ["a", "b", "a"],
        "ts": pa.array([T * US, (T + 1) * US, (T + 2) * US], UTC),
        "metric": ["ph", "ph", "temp"],
        "value": [7.5, 8.0, 20.0],
    } | columns
    return pa.table({name: column for name, column in whole.items() if column is not None})


@both
@pytest.mark.parametrize(
    "ts",
    [
        pa.array([T, T + 1, T + 2]),
        pa.array([T, T + 1, T + 2], pa.uint32()),
        pa.array([T, T + 1, T + 2], pa.float64()),
        pa.array([T * US, (T + 1) * US, (T + 2) * US], UTC),
        pa.array([T * 1000, (T + 1) * 1000, (T + 2) * 1000], pa.timestamp("ms", "+02:00")),
        pa.array([T * 10**9, (T + 1) * 10**9, (T + 2) * 10**9], pa.timestamp("ns", "UTC")),
        ["2023-11-14T22:13:20Z", "2023-11-14T22:13:21.000Z", "2023-11-14T23:13:22+01:00"],
        ["2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z", "2023-11-14T22:13:22Z"],
    ],
    ids=str,
)
def test_times_of_every_type(decode: Decode, pack: Callable[..., bytes], ts: Any) -> None:
    assert readings(decode(pack(table(ts=ts)), LIMITS)) == LONG


@both
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    "kind", [pa.float32(), pa.int16(), pa.uint64(), pa.decimal128(21, 2), pa.float16()], ids=str
)
def test_values_of_every_type(
    decode: Decode, pack: Callable[..., bytes], kind: pa.DataType, encoded: bool
) -> None:
    value = pa.array([7, 8, 20]).cast(kind) if kind != pa.float16() else np.float16([7, 8, 20])
    columns = decode(pack(table(value=value)), LIMITS)
    assert columns.value.tolist() == [7, 8, 20]
    assert columns.value.dtype == np.float64


@both
def test_units_are_kept_and_null_is_none(decode: Decode, pack: Callable[..., bytes]) -> None:
    columns = decode(pack(table(unit=["mg/L", None, "degF"])), LIMITS)
    assert [columns.channels[number] for number in columns.channel_no] == [
        ("ph", "mg/L"),
        ("ph", None),
        ("temp", "degF"),
    ]


@both
def test_bad_rows_cost_only_themselves(decode: Decode, pack: Callable[..., bytes]) -> None:
    whole = pa.table(
        {
            "sensor": pa.array([None, "a", "a", "a", "a", "a"]),
            "ts": pa.array([T, T, T, T, None, 10**17]),
            "metric": pa.array(["ph", None, "ph", "ph", "ph", "ph"]),
            "value": pa.array([1.0, 2.0, None, float("nan"), 5.0, 6.0]),
        }
    )
    columns = decode(pack(pa.concat_tables([whole, table(ts=pa.array([T, T + 1, T + 2]))])), LIMITS)
    assert [reading[3] for reading in readings(columns)] == [7.5, 8.0, 20.0]
    assert columns.index.tolist() == [6, 7, 8]
    assert [(index, field) for index, field, _ in refusals(columns)] == [
        (0, "sensor"), (1, "metric"), (2, "value"), (3, "value"), (4, "ts"), (5, "ts"),
    ]  # fmt: skip


WIDE = {
    "sensor": ["a", "b"],
    "ts": pa.array([T * US, (T + 1) * US], UTC),
    "ph": [7.5, None],
    "temperature [degF]": [60, 61],
    "nothing": pa.nulls(2),
}


@both
def test_wide_tables(decode: Decode, pack: Callable[..., bytes]) -> None:
    assert readings(decode(pack(pa.table(WIDE)), LIMITS)) == [
        ("a", "ph", None, 7.5, 0, 0),
        ("a", "temperature", "degF", 60.0, 0, 2),
        ("b", "temperature", "degF", 61.0, 1, 3),
    ]


@both
def test_bad_cells_of_wide_tables(decode: Decode, pack: Callable[..., bytes]) -> None:
    whole = pa.table(WIDE | {"ph": [float("inf"), 8.0], "ts": pa.array([T, None])})
    columns = decode(pack(whole), LIMITS)
    assert readings(columns) == [("a", "temperature", "degF", 60.0, 0, 2)]
    assert [(index, field) for index, field, _ in refusals(columns)] == [
        (0, "value"),
        (1, "ts"),
        (3, "ts"),
    ]


@both
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"sensor": None}, "no column 'sensor'"),
        ({"ts": None}, "no column 'ts'"),
        ({"value": None}, "no column 'value'"),
        ({"metric": None}, "no column 'metric'"),
        ({"metric": None, "value": None}, "no column of values"),
        ({"units": ["a", "b", "c"]}, "'units' is not known"),
        ({"sensor": [1, 2, 3]}, "'sensor' is int64"),
        ({"value": ["7", "8", "9"]}, "'value' is"),
        ({"value": [True, False, True]}, "'value' is bool"),
        ({"ts": pa.array([1, 2, 3], pa.timestamp("us"))}, "without a time zone"),
        ({"ts": pa.array([1, 2, 3], pa.date32())}, "'ts' is date32"),
        ({"value": [[1.0], [2.0], [3.0]]}, "nested"),
        ({"Sensor": ["a", "b", "c"]}, "two columns of one name"),
    ],
)
def test_tables_of_another_shape(
    decode: Decode, pack: Callable[..., bytes], columns: dict[str, Any], said: str
) -> None:
    with pytest.raises(MalformedBody) as caught:
        decode(pack(table(**columns)), LIMITS)
    if not (said == "nested" and decode is decode_arrow):
        assert said in caught.value.detail


@both
def test_too_many_readings(decode: Decode, pack: Callable[..., bytes]) -> None:
    with pytest.raises(TooManyReadings):
        decode(pack(table()), Limits(2))
    with pytest.raises(TooManyReadings):
        decode(pack(pa.table(WIDE)), Limits(5))


@both
def test_a_table_without_rows_has_no_reading(decode: Decode, pack: Callable[..., bytes]) -> None:
    for whole in (table().slice(0, 0), pa.table(WIDE).slice(0, 0)):
        columns = decode(pack(whole), LIMITS)
        assert not len(columns.index) and not columns.rejected


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_arrow_words_of_every_type_in_several_batches(kind: pa.DataType) -> None:
    whole = table(sensor=pa.array(["a", "b", "a"]).cast(kind))
    assert readings(decode_arrow(stream(whole, chunk=2), LIMITS)) == LONG


def test_arrow_dictionaries_that_change_from_batch_to_batch() -> None:
    first, second = (
        table(sensor=pa.array(["a", "b", "a"]).dictionary_encode()),
        table(sensor=pa.array(["c", "a", "c"]).dictionary_encode()),
    )
    body = stream(pa.concat_tables([first, second]), chunk=3)
    columns = decode_arrow(body, LIMITS)
    assert [reading[0] for reading in readings(columns)] == ["a", "b", "a", "c", "a", "c"]


def test_words_of_a_dictionary_that_no_row_uses_are_not_looked_up() -> None:
    words = pa.DictionaryArray.from_arrays(
        pa.array([2, 4, 2], pa.int8()), ["x", "y", "a", None, "b", "a"]
    )
    columns = decode_arrow(stream(table(sensor=words)), LIMITS)
    assert columns.sensors == ["a", "b"] and readings(columns) == LONG
    twice = pa.DictionaryArray.from_arrays(pa.array([2, 5, 3], pa.int8()), words.dictionary)
    columns = decode_arrow(stream(table(sensor=twice)), LIMITS)
    assert columns.sensors == ["a"] and columns.sensor_no.tolist() == [0, 0]
    assert refusals(columns) == [(2, "sensor", "is missing")]


def test_arrow_compressed_buffers() -> None:
    for codec in ("zstd", "lz4"):
        assert readings(decode_arrow(stream(table(), compression=codec), LIMITS)) == LONG


def test_an_arrow_stream_that_unfolds_too_far() -> None:
    whole = pa.table({**WIDE, "sensor": ["a" * 3_000_000, "b"]})
    body = stream(whole, compression="zstd")
    assert len(body) < 5_000
    with pytest.raises(BodyTooLarge):
        decode_arrow(body, Limits(1_000, "s", 2_000_000))


def test_arrow_delta_dictionaries_are_refused() -> None:
    sink = pa.BufferOutputStream()
    schema = table(sensor=pa.array(["a", "b", "a"]).dictionary_encode()).schema
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for words in (["a", "b"], ["a", "b", "c"]):
            sensor = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1], pa.int32()), words)
            writer.write_table(table(sensor=sensor))
    with pytest.raises(MalformedBody, match="delta dictionaries"):
        decode_arrow(bytes(sink.getvalue()), LIMITS)


def test_an_arrow_file_is_no_stream() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table())
    with pytest.raises(MalformedBody, match="Arrow IPC stream"):
        decode_arrow(bytes(sink.getvalue()), LIMITS)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": codec} for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")
    ] + [
        {"data_page_version": "2.0"}, {"use_dictionary": False}, {"row_group_size": 1},
        {"version": "1.0"}, {"write_statistics": False}, {"write_page_index": True},
        {"write_page_checksum": True}, {"data_page_size": 1}, {"store_schema": False},
        {"use_dictionary": False, "column_encoding": {"ts": "DELTA_BINARY_PACKED"}},
        {"use_dictionary": False, "column_encoding": {"value": "BYTE_STREAM_SPLIT"}},
    ],
    ids=str,
)  # fmt: skip
def test_parquet_of_every_make(options: dict[str, Any]) -> None:
    assert readings(decode_parquet(parquet(table(), **options), LIMITS)) == LONG


def test_a_parquet_file_that_unfolds_too_far() -> None:
    body = parquet(pa.table({**WIDE, "sensor": ["a" * 3_000_000, "b"]}), compression="zstd")
    assert len(body) < 9_000
    with pytest.raises(BodyTooLarge):
        decode_parquet(body, Limits(1_000, "s", 2_000_000))


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_parquet_text_encodings_that_are_no_dictionary_are_refused(encoding: str) -> None:
    body = parquet(table(), use_dictionary=False, column_encoding={"sensor": encoding})
    with pytest.raises(MalformedBody, match=encoding):
        decode_parquet(body, LIMITS)


@both
def test_a_long_text_that_every_row_points_to_stays_one_text(
    decode: Decode, pack: Callable[..., bytes]
) -> None:
    def repeated(text: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array([0] * 900, pa.int32()), [text])

    whole = table(
        sensor=repeated("a" * 1_000_000),
        ts=repeated("2" * 1_000_000),
        metric=repeated("ph"),
        value=[1.0] * 900,
    )
    columns = decode(pack(whole), LIMITS)
    assert len(columns.rejected) == 900
    assert all(len(str(verdict.reason)) < 200 for verdict in columns.rejected)


def test_views_that_all_show_one_long_text_are_refused() -> None:
    long = pa.py_buffer(b"a" * 1_000_000)
    views = pa.py_buffer(struct.pack("<i4sii", 1_000_000, b"aaaa", 0, 0) * 900)
    sensor = pa.Array.from_buffers(pa.string_view(), 900, [None, views, long])
    whole = table(sensor=sensor, ts=[T] * 900, metric=["ph"] * 900, value=[1.0] * 900)
    with pytest.raises(MalformedBody, match="longer than"):
        decode_arrow(stream(whole), LIMITS)


def damaged(body: bytes, dice: random.Random) -> Iterable[bytes]:
    """The body with bytes changed, cut out or put in."""
    for _ in range(200):
        wrong = bytearray(body)
        for _ in range(dice.choice([1, 1, 2, 8])):
            at = dice.randrange(len(wrong))
            match dice.randrange(4):
                case 0:
                    wrong[at] = dice.randrange(256)
                case 1:
                    del wrong[at : at + dice.randrange(16)]
                case 2:
                    wrong[at:at] = dice.randbytes(dice.randrange(8))
                case 3:
                    wrong[at : at + 8] = struct.pack("<q", dice.choice([-1, 1 << 62, 1 << 31, 0]))
            if not wrong:
                break
        yield bytes(wrong)


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (decode_arrow, stream(table())),
        (decode_arrow, stream(table(), compression="zstd")),
        (decode_arrow, stream(table(sensor=pa.array(["a", "b", "a"]).dictionary_encode()))),
        (decode_arrow, stream(table(sensor=pa.array(["a", "b", "a"]).cast(pa.string_view())))),
        (decode_parquet, parquet(table())),
        (decode_parquet, parquet(table(), data_page_version="2.0", compression="zstd")),
        (decode_csv, CSV.encode()),
    ],
    ids=["arrow", "zstd", "dictionary", "view", "parquet", "parquet 2", "csv"],
)
def test_damaged_bodies_are_refused_or_read_never_worse(decode: Decode, body: bytes) -> None:
    for wrong in damaged(body, random.Random(7)):
        try:
            columns = decode(wrong, LIMITS)
        except Problem as problem:
            assert problem.status in (400, 413)
        else:
            n = len(columns.index)
            assert n <= 1_000 and np.isfinite(columns.value).all()
            assert n == len(columns.ts) == len(columns.value) == len(columns.sensor_no)
            assert all(0 <= number < len(columns.sensors) for number in columns.sensor_no)
