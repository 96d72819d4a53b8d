"""A/B: how the arrays of a columnar JSON body become numpy arrays.

Run: python bench/decisions/columnar_decode/run.py
Roads, interleaved, best of 15 rounds, millions of values a second (times counted as part of the work):
- list: msgspec into list[float | None], then numpy.array (what app/ingest/columnar.py does)
- split: msgspec.Raw, commas found by numpy, one Arrow string array over all metrics, one Arrow cast
- text: msgspec.Raw, then numpy.fromstring(sep=",") on the joined text
- arrow: the whole body through pyarrow.json
"""

import json
import random
import time
import warnings
from collections.abc import Callable

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json


class Listed(msgspec.Struct):
    sensor: str
    ts: list[str | int | float]
    metrics: dict[str, list[float | None]]


class Raw(msgspec.Struct):
    sensor: str
    ts: msgspec.Raw
    metrics: dict[str, msgspec.Raw]


LISTED = msgspec.json.Decoder(Listed)
RAW = msgspec.json.Decoder(Raw)


def body(values: int, metrics: int) -> bytes:
    dice = random.Random(1)
    n = values // metrics
    columns = {f"m{j}": [round(dice.uniform(0, 50), 2) for _ in range(n)] for j in range(metrics)}
    ts = [1_700_000_000 + i for i in range(n)]
    document = {"sensor": "s1", "ts": ts, "metrics": columns}
    return json.dumps(document, separators=(",", ":")).encode()


def listed(data: bytes) -> object:
    item = LISTED.decode(data)
    return np.array(item.ts, dtype=np.int64), [
        np.array(column, dtype=np.float64) for column in item.metrics.values()
    ]


def _numbers(parts: list[bytes], kind: pa.DataType) -> object:
    text = b",".join(parts)
    cut = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    n = len(cut) + 1
    offsets = np.zeros(n + 1, np.int32)
    offsets[1:-1] = cut - np.arange(n - 1)
    offsets[-1] = len(text) - n + 1
    data = pa.py_buffer(text.translate(None, b","))
    texts = pa.StringArray.from_buffers(n, pa.py_buffer(offsets), data)
    return texts.cast(kind).to_numpy()


def split(data: bytes) -> object:
    item = RAW.decode(data)
    parts = [bytes(column)[1:-1] for column in item.metrics.values()]
    return _numbers([bytes(item.ts)[1:-1]], pa.int64()), _numbers(parts, pa.float64())


def text(data: bytes) -> object:
    item = RAW.decode(data)
    parts = ",".join(bytes(column)[1:-1].decode() for column in item.metrics.values())
    ts = np.fromstring(bytes(item.ts)[1:-1].decode(), dtype=np.int64, sep=",")
    return ts, np.fromstring(parts, sep=",")


def arrow(data: bytes) -> object:
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
    return pyarrow.json.read_json(pa.BufferReader(data), read_options=options)


ROADS: list[Callable[[bytes], object]] = [listed, split, text, arrow]


def main() -> None:
    warnings.simplefilter("ignore")
    print("values metrics", *(f"{road.__name__:>8}" for road in ROADS))
    for values, metrics in ((1_000, 1), (1_000, 4), (10_000, 1), (10_000, 4)):
        data = body(values, metrics)
        best = dict.fromkeys(ROADS, 1e9)
        for _ in range(15):
            for road in ROADS:
                begin = time.perf_counter()
                for _ in range(40_000 // values):
                    road(data)
                best[road] = min(best[road], (time.perf_counter() - begin) / (40_000 // values))
        print(f"{values:6} {metrics:7}", *(f"{values / best[r] / 1e6:8.1f}" for r in ROADS))


if __name__ == "__main__":
    main()
