"""Messages of PostgreSQL's protocol, version 3: the few that are read or written here.

Everything else passes as it is. A message is a letter, a length that counts itself, and a body.
"""

import struct
from typing import NamedTuple

# both ways a letter may mean different things: from the client …
QUERY, PARSE, BIND, EXECUTE, DESCRIBE, CLOSE = b"QPBEDC"
SYNC, FLUSH, FUNCTION, TERMINATE, PASSWORD = b"SHFXp"
COPY_DATA, COPY_DONE, COPY_FAIL = b"dcf"
# … and from the server
AUTHENTICATION, BACKEND_KEY, PARAMETER, NOTICE, NOTIFICATION = b"RKSNA"
ERROR, READY, ROW_DESCRIPTION, DATA_ROW, COMPLETE = b"EZTDC"
EMPTY, SUSPENDED, NO_DATA, PARAMETERS, COPY_IN = b"IsntG"
PARSED, BOUND, CLOSED = b"123"

PROTOCOL = 196_608
SSL, GSS, CANCEL = 80_877_103, 80_877_104, 80_877_102
"""What may come before or instead of a protocol's number."""

IDLE, IN_BLOCK, FAILED = b"I", b"T", b"E"
"""What READY says of the transaction."""

NULL = b"\xff\xff\xff\xff"
_HEAD = struct.Struct(">BI")
_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">I")
_FIELD = struct.Struct(">IHIhih")


class Malformed(Exception):
    """The client's message is not what its letter says."""


class Field(NamedTuple):
    """A column of an answer."""

    name: str
    oid: int
    is_binary: bool


class Bound(NamedTuple):
    """What a Bind message says."""

    portal: bytes
    statement: bytes
    values: list[tuple[bytes | None, bool]]
    """Each parameter's value, and whether it is binary."""


def message(kind: int, body: bytes = b"") -> bytes:
    """Ready to send."""
    return _HEAD.pack(kind, len(body) + 4) + body


def head(data: bytes, at: int = 0) -> tuple[int, int]:
    """Letter, and the length of the body."""
    kind, size = _HEAD.unpack_from(data, at)
    return kind, size - 4


def texts(body: bytes, count: int) -> tuple[list[bytes], bytes]:
    """So many texts that end with NUL, and the rest. Raises Malformed."""
    *found, rest = body.split(b"\0", count)
    if len(found) != count:
        raise Malformed("a text has no end")
    return found, rest


def failure(text: str, state: str, *, severity: str = "ERROR") -> bytes:
    """An error message."""
    fields = {"S": severity, "V": severity, "C": state, "M": text}
    body = b"".join(name.encode() + value.encode() + b"\0" for name, value in fields.items())
    return message(ERROR, body + b"\0")


def parse(name: bytes, text: bytes) -> bytes:
    """Body of a Parse message without types of parameters."""
    return name + b"\0" + text + b"\0" + _SHORT.pack(0)


def bind(name: bytes) -> bytes:
    """Body of a Bind message without parameters; portal and statement have the same name."""
    return name + b"\0" + name + b"\0" + bytes(6)


def execute(name: bytes) -> bytes:
    """Body of an Execute message for every row."""
    return name + b"\0" + bytes(4)


def read_bind(body: bytes) -> Bound:
    """Raises Malformed."""
    (portal, statement), rest = texts(body, 2)
    try:
        (count,) = _SHORT.unpack_from(rest)
        formats = struct.unpack_from(f">{count}H", rest, 2)
        at = 2 + 2 * count
        (wanted,) = _SHORT.unpack_from(rest, at)
        at += 2
        values: list[tuple[bytes | None, bool]] = []
        for index in range(wanted):
            (size,) = _LONG.unpack_from(rest, at)
            at += 4
            code = formats[index if count > 1 else 0] if count else 0
            if size == 0xFFFFFFFF:
                values.append((None, bool(code)))
                continue
            if at + size > len(rest):
                raise Malformed("a parameter has no end")
            values.append((rest[at : at + size], bool(code)))
            at += size
    except (struct.error, IndexError):
        raise Malformed("a Bind message is cut off") from None
    return Bound(portal, statement, values)


def read_execute(body: bytes) -> tuple[bytes, int]:
    """Portal, and how many rows; 0: all. Raises Malformed."""
    (portal,), rest = texts(body, 1)
    if len(rest) != 4:
        raise Malformed("an Execute message is cut off")
    return portal, int(_LONG.unpack(rest)[0])


def read_setting(body: bytes) -> tuple[str, str]:
    """Name and value of a setting that the server reports."""
    (name, value), _ = texts(body, 2)
    return name.decode("utf-8", "replace"), value.decode("utf-8", "replace")


def read_parameters(body: bytes) -> list[int]:
    """Types of a statement's parameters."""
    (count,) = _SHORT.unpack_from(body)
    return list(struct.unpack_from(f">{count}I", body, 2))


def read_fields(body: bytes) -> list[Field]:
    """The columns."""
    (count,) = _SHORT.unpack_from(body)
    found = []
    at = 2
    for _ in range(count):
        end = body.index(b"\0", at)
        _, _, oid, _, _, code = _FIELD.unpack_from(body, end + 1)
        found.append(Field(body[at:end].decode("utf-8", "replace"), oid, code == 1))
        at = end + 1 + _FIELD.size
    return found


def read_row(body: bytes) -> list[str | None]:
    """Values of a row of texts."""
    (count,) = _SHORT.unpack_from(body)
    found: list[str | None] = []
    at = 2
    for _ in range(count):
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if size < 0:
            found.append(None)
            continue
        found.append(body[at : at + size].decode())
        at += size
    return found
