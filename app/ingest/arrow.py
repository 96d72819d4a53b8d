"""Arrow IPC streams, in the long or wide form of table.py.

The stream's own headers are read before Arrow unpacks anything: how many rows a batch claims and what its
compressed buffers claim to unfold to. Then every buffer is validated before it is used.
"""

import struct

import pyarrow as pa
import pyarrow.ipc

from app.errors import BodyTooLarge, MalformedBody
from app.ingest.columns import Columns
from app.ingest.limits import Limits
from app.ingest.table import BROKEN, columns_of

# field numbers in Arrow's Message.fbs
HEADER = 2
BATCH_LENGTH, BATCH_BUFFERS, BATCH_COMPRESSION = 0, 2, 3
DICTIONARY_BATCH, DICTIONARY_IS_DELTA = 1, 2


def decode_arrow(body: bytes, limits: Limits) -> Columns:
    """An Arrow stream. Raises MalformedBody, BodyTooLarge, TooManyReadings."""
    if body[:6] == b"ARROW1":
        raise MalformedBody("The body is an Arrow file; send an Arrow IPC stream.")
    try:
        _check_messages(body, limits)
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            table = reader.read_all()
        table.validate(full=True)
        return columns_of(table, limits)
    except (*BROKEN, struct.error) as exc:
        raise MalformedBody(f"The body is no valid Arrow stream: {str(exc)[:200]}.") from None


def _check_messages(body: bytes, limits: Limits) -> None:
    rows = size = 0
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
        if message.type not in ("record batch", "dictionary"):
            continue
        data = memoryview(message.metadata)
        batch = _child(data, _child(data, 0), HEADER)
        if batch and message.type == "dictionary":
            # each would be kept whole beside the ones before it
            if _field(data, batch, DICTIONARY_IS_DELTA, "b"):
                raise MalformedBody("The stream has delta dictionaries; send whole ones.")
            batch = _child(data, batch, DICTIONARY_BATCH)
        if not batch:
            raise MalformedBody("The stream has a message without a batch.")
        if message.type == "record batch":
            rows += _field(data, batch, BATCH_LENGTH, "q")
            limits.check(rows)
        if _child(data, batch, BATCH_COMPRESSION):
            size += _unfolded(data, batch, memoryview(message.body))
            if size > limits.max_bytes:
                raise BodyTooLarge(
                    f"The stream unfolds to more than {limits.max_bytes} bytes; send several.",
                    limit_bytes=limits.max_bytes,
                )


def _unfolded(data: memoryview, batch: int, content: memoryview) -> int:
    """What the compressed buffers of a batch claim to unfold to, in bytes."""
    start = _child(data, batch, BATCH_BUFFERS)
    if not start:
        return 0
    (count,) = struct.unpack_from("<I", data, start)
    size = 0
    for number in range(count):
        offset, length = struct.unpack_from("<qq", data, start + 4 + 16 * number)
        if length >= 8 and offset >= 0:
            size += max(struct.unpack_from("<q", content, offset)[0], length)
    return size


def _field(data: memoryview, table: int, number: int, kind: str) -> int:
    """A scalar field of a flatbuffers table; 0 where it is not there."""
    at = _where(data, table, number)
    return int(struct.unpack_from(f"<{kind}", data, at)[0]) if at else 0


def _child(data: memoryview, table: int, number: int = 0) -> int:
    """Where a table or vector begins that a field points to; 0 where it is not there."""
    at = _where(data, table, number) if table else 0
    if table == 0 and number == 0:
        return int(struct.unpack_from("<I", data, 0)[0])
    return at + int(struct.unpack_from("<I", data, at)[0]) if at else 0


def _where(data: memoryview, table: int, number: int) -> int:
    (back,) = struct.unpack_from("<i", data, table)
    layout = table - back
    (size,) = struct.unpack_from("<H", data, layout)
    at = 4 + 2 * number
    if at + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", data, layout + at)
    return table + int(offset) if offset else 0
