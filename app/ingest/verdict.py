"""What became of each reading of a request.

Every reading sent gets exactly one verdict: stored, late (stored, and old on arrival), duplicate (the
same value was there), conflict (another value was there and stays) or rejected (field and reason say
why). stored + duplicate + conflict + rejected = sent; late ones count among the stored. On a
distributed server some may be unavailable instead: not stored, because the node that holds the
sensor is away; then the answer is no success, and sending all of it again is right.
"""

from enum import IntEnum

import msgspec
import numpy as np
from numpy.typing import NDArray


class Code(IntEnum):
    """Verdicts as they stand in arrays."""

    STORED = 0
    LATE = 1
    DUPLICATE = 2
    CONFLICT = 3
    REJECTED = 4
    AWAY = 5


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reading that was not simply stored."""

    index: int
    """Position in the request: of the row, or in a columnar body of the value, counted through every
    metric's array in the order sent, nulls included."""
    verdict: str
    field: str | None = None
    reason: str | None = None
    type: str | None = None
    """The problem type, where a limit of its own was exceeded."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a batch. It is sent after the commit: what it calls stored is durable."""

    sent: int
    stored: int
    duplicate: int
    conflict: int
    late: int
    rejected: int
    unavailable: int | msgspec.UnsetType = msgspec.UNSET
    verdicts: list[Verdict] | msgspec.UnsetType = msgspec.UNSET


REASONS = {
    Code.CONFLICT: "another value is stored for this sensor, metric and time; it stays",
    Code.AWAY: "the server that holds this sensor is away or hands it on; send the reading again",
}
NAMES = ("stored", "late", "duplicate", "conflict", "rejected", "unavailable")


def reply(
    codes: NDArray[np.uint8],
    index: NDArray[np.int64],
    rejected: list[Verdict],
    *,
    is_minimal: bool,
) -> Reply:
    """Sum up.

    codes, index: shape (n,), verdict and position of each reading that reached the writer;
    rejected: those that did not, the unavailable ones of sensors that nobody could ask for included.
    Minimal replies list nothing but rejections and conflicts.
    """
    if not rejected and not np.count_nonzero(codes):  # as good as always
        n = len(codes)
        return Reply(sent=n, stored=n, duplicate=0, conflict=0, late=0, rejected=0, verdicts=[])
    count = np.bincount(codes, minlength=6)
    n_unknown = sum(one.verdict == "unavailable" for one in rejected)
    verdicts = list(rejected)
    wanted = codes >= Code.CONFLICT if is_minimal else codes != Code.STORED
    where = np.flatnonzero(wanted)
    if where.size:
        fields = {Code.CONFLICT: "value", Code.AWAY: "sensor"}
        verdicts.extend(
            Verdict(position, NAMES[code], fields.get(code), REASONS.get(code))
            for position, code in zip(index[where].tolist(), codes[where].tolist(), strict=True)
        )
    verdicts.sort(key=lambda item: item.index)
    return Reply(
        sent=len(codes) + len(rejected),
        stored=int(count[Code.STORED] + count[Code.LATE]),
        duplicate=int(count[Code.DUPLICATE]),
        conflict=int(count[Code.CONFLICT]),
        late=int(count[Code.LATE]),
        rejected=len(rejected) - n_unknown,
        unavailable=int(count[Code.AWAY]) + n_unknown or msgspec.UNSET,
        verdicts=verdicts,
    )
