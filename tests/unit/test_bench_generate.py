"""The same seed gives the same readings; every form of a body says the same."""

import msgspec
import numpy as np
import pytest

from app.ingest.arrow import decode_arrow
from app.ingest.decode import decode_json
from app.ingest.limits import Limits
from app.ingest.line_protocol import decode_line_protocol
from bench.client import LoadError, answer
from bench.generate import FORMATS, METRICS, SINGLE, batches, request, shape, uid

END = 1_790_000_000


def make(**more: int) -> list[tuple[bytes, ...]]:
    """The bytes of every array."""
    arguments = {"seed": 7, "sensors": 200, "batch": 1_000, "count": 5_000, "end": END} | more
    made = batches(**arguments)  # type: ignore[arg-type]
    return [
        (b.sensor.tobytes(), b.metric.tobytes(), b.ts.tobytes(), b.value.tobytes()) for b in made
    ]


def test_same_seed_same_readings() -> None:
    assert make() == make()


def test_other_seed_other_readings() -> None:
    assert make() != make(seed=8)


@pytest.mark.parametrize("batch", [1, 100, 1_000, 10_000])
def test_no_key_comes_twice_and_none_is_late(batch: int) -> None:
    made = batches(seed=1, sensors=1_000, batch=batch, count=30_000, end=END)
    keys = {
        key
        for b in made
        for key in zip(b.sensor.tolist(), b.metric.tolist(), b.ts.tolist(), strict=True)
    }
    assert {len(b) for b in made} == {batch}
    assert len(keys) == sum(map(len, made))
    assert max(int(b.ts.max()) for b in made) == END * 1_000_000


def test_batches_are_of_the_sensors_asked_for() -> None:
    made = batches(seed=1, sensors=100, first=500, batch=1_000, count=5_000, end=END)
    numbers = np.concatenate([b.sensor for b in made])
    assert (numbers.min(), numbers.max()) == (500, 599)


def test_about_one_in_a_thousand_violates_and_the_rest_does_not() -> None:
    made = batches(seed=3, sensors=1_000, batch=10_000, count=500_000, end=END)
    value = np.concatenate([b.value for b in made])
    metric = np.concatenate([b.metric for b in made])
    high = np.array([m.high for m in METRICS])[metric]
    low = np.array([m.low for m in METRICS])[metric]
    outside = (value > high) | (value < low)
    assert 0.0008 < outside.mean() < 0.0012
    calm = batches(seed=3, sensors=1_000, batch=10_000, count=500_000, end=END, violations=0)
    value = np.concatenate([b.value for b in calm])
    assert not ((value > high) | (value < low)).any()


def test_a_gateway_buffers_what_its_sensors_measure() -> None:
    assert shape(1, 1_000) == (1, 1, 1)
    assert shape(100, 1_000) == (20, 5, 1)
    assert shape(10_000, 1_000) == (100, 5, 20)


DECODERS = {
    "rows": decode_json,
    "columnar": decode_json,
    "line": lambda body, limits: decode_line_protocol(body, limits, 0),
    "arrow": decode_arrow,
}


@pytest.mark.parametrize("form", FORMATS)
def test_forms_of_a_body_hold_the_same_readings(form: str) -> None:
    (made,) = batches(seed=5, sensors=100, batch=1_000, count=1_000, end=END)
    columns = DECODERS[form](FORMATS[form].encode(made), Limits(50_000, "s"))
    assert not columns.rejected
    found = {
        (columns.sensors[s], columns.channels[c][0], ts, value)
        for s, c, ts, value in zip(
            columns.sensor_no.tolist(), columns.channel_no.tolist(), columns.ts.tolist(),
            columns.value.tolist(), strict=True,
        )
    }  # fmt: skip
    assert found == {
        (uid(s), METRICS[m].code, ts, value)
        for s, m, ts, value in zip(
            made.sensor.tolist(), made.metric.tolist(), made.ts.tolist(), made.value.tolist(),
            strict=True,
        )
    }  # fmt: skip


def test_single_reading_is_one_object_in_a_whole_request() -> None:
    made = batches(seed=5, sensors=100, batch=1, count=1, end=END)[0]
    text = request(SINGLE, SINGLE.encode(made), "hw_key")
    head, _, body = text.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert msgspec.json.decode(body)["sensor"] == uid(0)


def test_answers_are_read_in_parts() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 5\r\n\r\nhello"
    assert all(answer(whole[:n]) is None for n in range(len(whole)))
    assert answer(whole) == (200, b"hello")
    with pytest.raises(LoadError, match="Content-Length"):
        answer(b"HTTP/1.1 200 OK\r\n\r\n")
