"""The proof notices every bit, and nothing but the order of readings is beside the point."""

import numpy as np
import pyarrow as pa
import pytest

from app.archive.digest import Columns, SensorDigest, Tally, difference, reading_hashes


def make(count: int = 1000) -> Columns:
    rng = np.random.default_rng(1)
    return Columns(
        ts=1_700_000_000_000_000 + np.arange(count, dtype=np.int64) * 30_000_000,
        metric=rng.integers(1, 6, count).astype(np.int16),
        value=np.round(rng.normal(10, 3, count), 2),
        quality=rng.choice(np.array([2, 2, 2, 3, 4], dtype=np.int16), count),
    )


def digest(readings: Columns) -> dict[int, SensorDigest]:
    tally = Tally()
    tally.add(np.array([7]), np.array([0]), readings)
    return tally.digest()


def copied(readings: Columns) -> Columns:
    return Columns(*(getattr(readings, name).copy() for name in readings.__struct_fields__))


def test_order_and_pieces_do_not_matter() -> None:
    readings = make()
    order = np.random.default_rng(2).permutation(1000)
    mixed = Columns(*(getattr(readings, name)[order] for name in readings.__struct_fields__))
    tally = Tally()
    for begin, end in ((0, 1), (1, 400), (400, 1000)):
        names = readings.__struct_fields__
        piece = Columns(*(getattr(mixed, name)[begin:end] for name in names))
        tally.add(np.array([7]), np.array([0]), piece)
    assert difference(digest(readings), tally.digest()) is None


@pytest.mark.parametrize("bit", range(64))
def test_every_bit_of_a_value_counts(bit: int) -> None:
    readings = make()
    other = copied(readings)
    other.value.view(np.uint64)[500] ^= np.uint64(1 << bit)
    assert digest(other)[7].checksum != digest(readings)[7].checksum


@pytest.mark.parametrize("column", ["ts", "metric", "quality"])
def test_every_bit_of_the_rest_counts(column: str) -> None:
    readings = make()
    width = getattr(readings, column).itemsize * 8
    found = {digest(readings)[7].checksum}
    for bit in range(width):
        other = copied(readings)
        unsigned = getattr(other, column).view(f"u{width // 8}")
        unsigned[500] ^= unsigned.dtype.type(1 << bit)
        found.add(digest(other)[7].checksum)
    assert len(found) == width + 1


def test_exchanged_values_are_noticed() -> None:
    readings = make()
    other = copied(readings)
    assert other.value[10] != other.value[20]
    other.value[[10, 20]] = other.value[[20, 10]]
    assert difference(digest(readings), digest(other)) == "sensor 7: other values (checksum)"


def test_zero_has_a_sign() -> None:
    readings = make(2)
    readings.value[:] = 0.0
    other = copied(readings)
    other.value[1] = -0.0
    assert difference(digest(readings), digest(other)) == "sensor 7: other values (checksum)"


def test_doubled_and_missing_readings_are_noticed() -> None:
    readings = make()
    twice, less = Tally(), Tally()
    for _ in range(2):
        twice.add(np.array([7]), np.array([0]), readings)
    less.add(np.array([8]), np.array([0]), readings)
    assert difference(digest(readings), twice.digest()) == (
        "sensor 7: 2000 readings instead of 1000"
    )
    assert difference(digest(readings), less.digest()) == "sensor 7: 1000 readings are missing"
    assert difference({}, digest(readings)) == "sensor 7: 1000 readings are too many"


def test_batches_of_a_table_give_the_same() -> None:
    readings = make()
    sensor = np.sort(np.random.default_rng(3).integers(1, 4, 1000))
    table = pa.table(
        {
            "sensor_id": sensor,
            "metric_id": readings.metric,
            "ts": pa.array(readings.ts).cast(pa.timestamp("us", tz="UTC")),
            "value": readings.value,
            "quality": readings.quality,
        }
    )
    whole, pieces = Tally(), Tally()
    for batch in table.combine_chunks().to_batches():
        whole.add_batch(batch)
    for batch in table.to_batches(max_chunksize=77):
        pieces.add_batch(batch)
    assert set(whole.digest()) == {1, 2, 3}
    assert sum(one.row_count for one in whole.digest().values()) == 1000
    assert difference(whole.digest(), pieces.digest()) is None


def test_long_pieces_are_hashed_as_short_ones_are() -> None:
    """Hashes are made block by block; kind 2 means these numbers for ever."""
    known = Columns(
        np.array([1_700_000_000_000_000]),
        np.array([3], dtype=np.int16),
        np.array([7.25]),
        np.array([2], dtype=np.int16),
    )
    assert reading_hashes(known).tolist() == [412138957929708149]
    n = 40_000
    rng = np.random.default_rng(5)
    readings = Columns(
        np.arange(n, dtype=np.int64),
        rng.integers(1, 9, n).astype(np.int16),
        rng.normal(size=n),
        rng.integers(1, 5, n).astype(np.int16),
    )
    whole = reading_hashes(readings)
    for at in (0, 16_383, 16_384, 39_999):
        one = slice(at, at + 1)
        alone = Columns(*(getattr(readings, name)[one] for name in readings.__struct_fields__))
        assert reading_hashes(alone)[0] == whole[at]
