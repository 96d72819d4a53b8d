"""Seeded readings: a fleet of sensors, in the batches in which gateways send them.

The same seed gives the same readings, whatever the machine. Readings go in order of time, as they
arrive in the field; values walk in hundredths and stay inside the limits of LIMITS except for about
one in a thousand, so that every reading is judged and few raise an alert.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VIOLATIONS = 0.001
GATEWAY_SENSORS = 100


@dataclass(frozen=True)
class Metric:
    """What a sensor of the fleet measures."""

    code: str
    middle: float
    step: float
    low: float
    high: float


METRICS = (
    Metric("ph", 7.4, 0.01, 6.5, 8.5),
    Metric("temperature", 14.0, 0.02, 2.0, 26.0),
    Metric("turbidity", 12.0, 0.05, 0.0, 60.0),
    Metric("dissolved_oxygen", 9.0, 0.02, 4.0, 14.0),
    Metric("specific_conductance", 410.0, 0.3, 150.0, 900.0),
)


@dataclass(frozen=True)
class Readings:
    """n readings in the order in which they are sent; every array has shape (n,)."""

    sensor: NDArray[np.int64]
    """Number in the fleet."""
    metric: NDArray[np.int64]
    """Number in METRICS."""
    ts: NDArray[np.int64]
    """Microseconds since 1970, whole seconds."""
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ts)


def uid(sensor: int) -> str:
    """What the fleet's sensor calls itself."""
    return f"bench-{sensor:06d}"


def walk(
    rng: np.random.Generator,
    ticks: int,
    streams: Sequence[Metric],
    *,
    violations: float = VIOLATIONS,
) -> NDArray[np.float64]:
    """Values, shape (ticks, streams): walks in hundredths that turn back at 40 % of the way."""
    steps = rng.normal(size=(ticks, len(streams)))
    room = np.array([0.4 * min(m.middle - m.low, m.high - m.middle) for m in streams])
    middle = np.array([m.middle for m in streams])
    free = rng.uniform(-room, room, len(streams)) + np.cumsum(
        steps * np.array([m.step for m in streams]), axis=0
    )
    # a walk between two mirrors
    folded = np.abs((free + room) % (4 * room) - 2 * room) - room
    value: NDArray[np.float64] = middle + folded
    if violations:
        is_wild = rng.random(value.shape) < violations
        wild = np.array([m.high * 1.05 for m in streams])
        value = np.where(is_wild, wild[None, :], value)
    rounded: NDArray[np.float64] = np.round(value, 2)
    return rounded


def shape(batch: int, sensors: int) -> tuple[int, int, int]:
    """Sensors, metrics and ticks of one batch: a gateway of up to 100 sensors that buffers."""
    metrics = len(METRICS) if batch >= len(METRICS) else 1
    gateway = min(GATEWAY_SENSORS, sensors, max(1, batch // metrics))
    ticks = max(1, batch // (metrics * gateway))
    return gateway, metrics, ticks


def batches(
    *,
    seed: int,
    sensors: int,
    batch: int,
    count: int,
    end: int,
    first: int = 0,
    violations: float = VIOLATIONS,
) -> list[Readings]:
    """At least one and about `count` readings in batches; the newest is at `end` (epoch seconds).

    They are of the fleet's `sensors` sensors from number `first` on.
    """
    gateway, metrics, ticks = shape(batch, sensors)
    size = gateway * metrics * ticks
    gateways = sensors // gateway
    number = max(1, count // size)
    windows = -(-number // gateways)
    rng = np.random.default_rng(seed)
    streams = [METRICS[m] for _ in range(gateways * gateway) for m in range(metrics)]
    values = walk(rng, windows * ticks, streams, violations=violations).reshape(
        windows, ticks, gateways, gateway, metrics
    )
    times = (end - windows * ticks + 1 + np.arange(windows * ticks, dtype=np.int64)) * 1_000_000
    sensor = np.tile(np.repeat(np.arange(gateway, dtype=np.int64), metrics), ticks)
    metric = np.tile(np.arange(metrics, dtype=np.int64), ticks * gateway)
    made: list[Readings] = []
    for no in range(number):
        window, place = divmod(no, gateways)
        ts = np.repeat(times[window * ticks : (window + 1) * ticks], gateway * metrics)
        value = np.ascontiguousarray(values[window, :, place]).reshape(-1)
        made.append(Readings(sensor + first + place * gateway, metric, ts, value))
    return made


Encode = Callable[[Readings], bytes]


@dataclass(frozen=True)
class Format:
    """A body that the API takes."""

    name: str
    content_type: str
    encode: Encode
    path: str = "/api/v1/readings"


def _seconds(readings: Readings) -> list[str]:
    texts = np.datetime_as_string(readings.ts.astype("datetime64[us]"), unit="s")
    return [f"{text}Z" for text in texts.tolist()]


def rows(readings: Readings) -> bytes:
    """One JSON object a reading, times as RFC 3339."""
    code = [m.code for m in METRICS]
    items = [
        f'{{"sensor":"{uid(sensor)}","ts":"{ts}","metric":"{code[metric]}","value":{value}}}'
        for sensor, ts, metric, value in zip(
            readings.sensor.tolist(),
            _seconds(readings),
            readings.metric.tolist(),
            readings.value.tolist(),
            strict=True,
        )
    ]
    return ("[" + ",".join(items) + "]").encode()


def columnar(readings: Readings) -> bytes:
    """One object a sensor, times as epoch seconds."""
    items = []
    for sensor, at in _by_sensor(readings):
        ts = ",".join(map(str, (np.unique(readings.ts[at]) // 1_000_000).tolist()))
        metrics = []
        for number in np.unique(readings.metric[at]).tolist():
            values = readings.value[at][readings.metric[at] == number].tolist()
            metrics.append(f'"{METRICS[number].code}":[{",".join(map(str, values))}]')
        items.append(f'{{"sensor":"{uid(sensor)}","ts":[{ts}],"metrics":{{{",".join(metrics)}}}}}')
    return ("[" + ",".join(items) + "]").encode()


def _by_sensor(readings: Readings) -> Iterator[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(readings.sensor, kind="stable")
    sensors, starts = np.unique(readings.sensor[order], return_index=True)
    yield from zip(sensors.tolist(), np.split(order, starts[1:]), strict=True)


def single(readings: Readings) -> bytes:
    """What a sensor sends for its one reading."""
    return rows(readings)[1:-1]


def line(readings: Readings) -> bytes:
    """Influx line protocol as Telegraf sends it: a line a sensor and time, a field a metric."""
    lines: dict[tuple[int, int], list[str]] = {}
    for sensor, ts, metric, value in zip(
        readings.sensor.tolist(), readings.ts.tolist(), readings.metric.tolist(),
        readings.value.tolist(), strict=True,
    ):  # fmt: skip
        lines.setdefault((sensor, ts), []).append(f"{METRICS[metric].code}={value}")
    return "".join(
        f"water,sensor={uid(sensor)} {','.join(fields)} {ts // 1_000_000}\n"
        for (sensor, ts), fields in lines.items()
    ).encode()


def arrow(readings: Readings) -> bytes:
    """An Arrow stream, long form, words as dictionaries."""
    import pyarrow as pa

    sensors, sensor_no = np.unique(readings.sensor, return_inverse=True)
    words = {
        "sensor": (sensor_no, [uid(n) for n in sensors.tolist()]),
        "metric": (readings.metric, [m.code for m in METRICS]),
    }
    table = pa.table(
        {
            name: pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(distinct))
            for name, (numbers, distinct) in words.items()
        }
        | {
            "ts": pa.array(readings.ts, pa.timestamp("us", "UTC")),
            "value": pa.array(readings.value),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


FORMATS: dict[str, Format] = {
    "rows": Format("rows", "application/json", rows),
    "columnar": Format("columnar", "application/json", columnar),
    "line": Format("line", "text/plain", line, "/api/v2/write?precision=s&org=bench&bucket=bench"),
    "arrow": Format("arrow", "application/vnd.apache.arrow.stream", arrow),
}
SINGLE = Format("single", "application/json", single)


def request(form: Format, body: bytes, key: str, *, path: str | None = None) -> bytes:
    """The whole HTTP/1.1 request, ready to be sent."""
    head = (
        f"POST {path or form.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: {form.content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
