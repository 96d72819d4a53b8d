"""Bytes a reading of the bundled data in Parquet by how values are written; a file a month, as in a lake.

`python -m bench.decisions.cold_encoding.run`: sizes are exact, seconds only for orientation.
"""

import io
import itertools
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.ingest.batch import Batch
from bench.options import Options
from bench.scenarios.archive import MOST_DECIMALS, entropy_bytes
from bench.scenarios.storage import real

Way = tuple[str, str, int, bool]
WAYS: list[Way] = [
    ("double", "dictionary", 3, False),
    ("double", "dictionary", 9, False),
    ("double", "dictionary", 19, False),
    ("double", "dictionary", 3, True),
    ("double", "plain", 3, False),
    ("double", "plain", 19, False),
    ("double", "BYTE_STREAM_SPLIT", 3, False),
    ("double", "BYTE_STREAM_SPLIT", 19, False),
    ("decimal", "dictionary", 3, False),
    ("decimal", "DELTA_BINARY_PACKED", 3, False),
    ("decimal", "DELTA_BINARY_PACKED", 19, False),
    ("decimal", "BYTE_STREAM_SPLIT", 3, False),
    ("decimal", "BYTE_STREAM_SPLIT", 19, False),
]
OTHERS = ["sensor_id", "metric_id", "quality", "tenant_id", "export_id"]


def months(batch: Batch) -> Iterator[Batch]:
    """Each month's readings, sorted as files are."""
    order = np.lexsort((batch.ts, batch.metric_id, batch.sensor_id))
    month = batch.ts[order].astype("datetime64[us]").astype("datetime64[M]")
    for one in np.unique(month):
        yield batch.where(order[month == one])


def decimals(value: np.ndarray) -> pa.Array:
    """DECIMAL(18, k) with the least k that keeps every bit. Raises ValueError where none does."""
    for k in range(MOST_DECIMALS):
        whole = np.rint(value * 10**k)
        if np.array_equal(whole / 10**k, value):
            halves = np.empty((len(whole), 2), np.int64)
            halves[:, 0] = whole
            halves[:, 1] = halves[:, 0] >> 63
            buffers = [None, pa.py_buffer(halves)]
            return pa.Array.from_buffers(pa.decimal128(18, k), len(whole), buffers)
    raise ValueError("not decimal")


def size(batch: Batch, way: Way) -> int:
    """Bytes of a month's file."""
    kind, encoding, level, is_by_series = way
    table = pa.table(
        {
            "sensor_id": batch.sensor_id,
            "metric_id": batch.metric_id,
            "ts": pa.array(batch.ts).cast(pa.timestamp("us", tz="UTC")),
            "value": decimals(batch.value) if kind == "decimal" else pa.array(batch.value),
            "quality": batch.quality,
            "tenant_id": np.ones(len(batch), np.int32),
            "export_id": np.ones(len(batch), np.int64),
        }
    )
    is_dictionary = encoding == "dictionary"
    encodings = {"ts": "DELTA_BINARY_PACKED"}
    if not is_dictionary:
        encodings["value"] = "PLAIN" if encoding == "plain" else encoding
    file = io.BytesIO()
    key = batch.sensor_id * 1000 + batch.metric_id
    cuts = [0, *(np.flatnonzero(np.diff(key)) + 1).tolist(), len(batch)]
    with pq.ParquetWriter(
        file,
        table.schema,
        compression="zstd",
        compression_level=level,
        use_dictionary=[*OTHERS, "value"] if is_dictionary else OTHERS,
        column_encoding=encodings,
        dictionary_pagesize_limit=8 << 20,
        store_decimal_as_integer=True,
        store_schema=False,
    ) as writer:
        for begin, end in itertools.pairwise(cuts) if is_by_series else [(0, len(batch))]:
            writer.write_table(table.slice(begin, end - begin), row_group_size=1 << 20)
    return file.getbuffer().nbytes


def main() -> None:
    """One line a way."""
    batch = real(Options())
    least = entropy_bytes(batch)
    print(f"{len(batch)} readings, order-0 entropy of the deltas {least:.3f} bytes")
    files = list(months(batch))
    for way in WAYS:
        start = time.process_time()
        found = sum(size(one, way) for one in files) / len(batch)
        seconds = time.process_time() - start
        kind, encoding, level, is_by_series = way
        groups = ", a row group a series" if is_by_series else ""
        print(
            f"| {kind}, {encoding}{groups} | {level} | {found:.2f} | {found / least:.1f} |"
            f" {seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
