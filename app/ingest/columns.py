"""A decoded request: columns in the sender's own words, whatever form the body had."""

import itertools
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.ingest.verdict import Verdict

Channel = tuple[str, str | None]
"""What the sender calls the metric, and the unit it says (None: the stored unit)."""


@dataclass
class Columns:
    """n readings; every array has shape (n,)."""

    sensors: list[str]
    """Distinct sensor uids; `sensor_no` points here."""
    channels: list[Channel]
    """Distinct (metric, unit); `channel_no` points here."""
    sensor_no: NDArray[np.int32]
    channel_no: NDArray[np.int32]
    ts: NDArray[np.int64]
    """Microseconds since 1970-01-01 UTC."""
    value: NDArray[np.float64]
    """As sent, in the channel's unit; finite."""
    index: NDArray[np.int64]
    """Position in the request, for the verdicts."""
    rejected: list[Verdict] = field(default_factory=list)
    """Readings that were no readings, or can't be taken right now."""
    sensor_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The database's id of each of `sensors`, once resolved; 0 where refused."""

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the readings where mask is false; their verdicts are in `rejected` already."""
        self.sensor_no = self.sensor_no[mask]
        self.channel_no = self.channel_no[mask]
        self.ts = self.ts[mask]
        self.value = self.value[mask]
        self.index = self.index[mask]

    def reject(
        self, mask: NDArray[np.bool_], field_name: str, reason: str, kind: str | None = None
    ) -> None:
        """Give every reading under the mask the same reason and problem type, and drop it."""
        if mask.any():
            self.rejected.extend(
                Verdict(i, "rejected", field_name, reason, kind) for i in self.index[mask].tolist()
            )
            self.keep(~mask)

    def reject_numbers(
        self,
        numbers: NDArray[np.int32],
        refused: Mapping[int, tuple[str, str]],
        verdict: str = "rejected",
    ) -> None:
        """Drop the readings whose sensor_no or channel_no (`numbers`) has a (field, reason)."""
        if refused:
            mask = np.isin(numbers, list(refused))
            self.rejected.extend(
                Verdict(i, verdict, *refused[number])
                for i, number in zip(self.index[mask].tolist(), numbers[mask].tolist(), strict=True)
            )
            self.keep(~mask)


T = TypeVar("T", bound=Hashable)


def numbered(items: Sequence[T]) -> tuple[list[T], NDArray[np.int32]]:
    """Distinct items in order of appearance, and each item's number among them."""
    numbers: defaultdict[T, int] = defaultdict(itertools.count().__next__)
    number = np.fromiter(map(numbers.__getitem__, items), np.int32, len(items))
    return list(numbers), number


def distinct(
    numbers: NDArray[np.integer[Any]], size: int
) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
    """Which numbers from 0 to size - 1 occur, in order, and each one's position among them."""
    if size > 4 * len(numbers) + 1000:
        return np.unique(numbers, return_inverse=True)
    is_used = np.zeros(size, dtype=np.bool_)
    is_used[numbers] = True
    return np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[numbers]
