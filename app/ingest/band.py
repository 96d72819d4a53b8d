"""Which readings can no rule care about?

A reading that violates no limit and whose datastream has no unresolved episode changes nothing in schema
alert, so it need not go through the candidates' door. The database publishes both halves of the proof:
bands (alert.bands) and the datastreams with unresolved episodes by bucket (alert.changed_since). A writer
remembers them with their versions and asks in every transaction whether they still hold; what it can't
prove is a candidate: slower, never wrong.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BUCKETS = 256
PLACES, PRIME = 1 << 16, 61
"""Sets of datastreams are kept by hash: two at one place cost time, never truth."""
RULES = -1
"""The bucket whose version is that of the thresholds."""

Row = tuple[int | None, int | None, int | None, int, float, float]
"""tenant_id, site_id, sensor_id, metric_id, low, high."""
NOWHERE: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
Change = tuple[int, int, list[int], list[int]]
"""A bucket, its version, its datastreams with unresolved episodes, pairwise."""


class BandTable:
    """The bands of one state of the thresholds; places with the same limits share a line."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self._scopes: dict[tuple[int | None, int | None, int | None], list[Row]] = {}
        width = 1
        for row in rows:
            self._scopes.setdefault(row[:3], []).append(row)
            width = max(width, row[3] + 1)
        self._lines: dict[tuple[tuple[int | None, int | None, int | None], ...], int] = {}
        self._known: dict[tuple[int, int | None], int] = {}
        # grown by doubling; every line beyond the last is empty
        self.low: NDArray[np.float64] = np.full((1, width), -np.inf)
        self.high: NDArray[np.float64] = np.full((1, width), np.inf)

    def line_of(self, tenant_id: int, site_id: int | None, sensor_id: int) -> int:
        """The line in `low` and `high` for a sensor: the narrowest of all scopes it could be in."""
        line = self._known.get((sensor_id, site_id))
        if line is None:
            line = self._known[sensor_id, site_id] = self._look_up(tenant_id, site_id, sensor_id)
        return line

    def _look_up(self, tenant_id: int, site_id: int | None, sensor_id: int) -> int:
        scopes = [
            scope
            for scope in (
                (None, None, None),
                (tenant_id, None, None),
                (tenant_id, site_id, None),
                (tenant_id, None, sensor_id),
            )
            if scope in self._scopes
        ]
        key = tuple(dict.fromkeys(scopes))
        line = self._lines.get(key)
        if line is None:
            line = len(self._lines)
            if line >= len(self.low):
                self.low = np.vstack([self.low, np.full_like(self.low, -np.inf)])
                self.high = np.vstack([self.high, np.full_like(self.high, np.inf)])
            for scope in key:
                for _, _, _, metric_id, low, high in self._scopes[scope]:
                    self.low[line, metric_id] = max(self.low[line, metric_id], low)
                    self.high[line, metric_id] = min(self.high[line, metric_id], high)
            self._lines[key] = line
        return line

    def is_outside(
        self,
        line: NDArray[np.int32],
        metric_id: NDArray[np.int16],
        value: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Whether each value violates a limit that could apply; all of shape (n,)."""
        width = self.low.shape[1]
        cell = np.add(line * width, np.minimum(metric_id, width - 1), dtype=np.intp)
        outside: NDArray[np.bool_] = value < self.low.ravel()[cell]
        outside |= value > self.high.ravel()[cell]
        if metric_id.max(initial=0) >= width:  # a metric beyond the table has no rule
            outside &= metric_id < width
        return outside


class BandKeeper:
    """The process's present table; replaced as a whole, so that a request keeps the one it used."""

    def __init__(self) -> None:
        self.table: BandTable | None = None

    def take(self, rows: list[Row]) -> BandTable:
        """The table of these bands: the present one where another node has said the same."""
        if self.table is None or self.table.rows != rows:
            self.table = BandTable(rows)
        return self.table


class Watch:
    """What one writer connection remembers of unresolved episodes."""

    def __init__(self) -> None:
        self.versions = ["-1"] * (1 + BUCKETS)
        """By bucket from RULES on, as the database is asked what has changed since."""
        self.bands: BandTable | None = None
        """The bands that hold where the connection writes; None: not known."""
        self._by_bucket: dict[int, NDArray[np.int64]] = {}
        self._watching = np.zeros(PLACES, dtype=np.int32)
        """How many unresolved episodes have a place; whoever shares it is judged, too."""

    def learn(self, changes: list[Change]) -> None:
        """Take in what the database says has changed."""
        gone, come = [NOWHERE], [NOWHERE]
        for bucket, version, sensor_ids, metric_ids in changes:
            self.versions[bucket - RULES] = str(version)
            if bucket == RULES:
                self.bands = None
                continue
            if bucket in self._by_bucket:
                gone.append(self._by_bucket.pop(bucket))
            if sensor_ids:
                places = place_of(np.array(sensor_ids), np.array(metric_ids))
                self._by_bucket[bucket] = places
                come.append(places)
        np.subtract.at(self._watching, np.concatenate(gone), 1)
        np.add.at(self._watching, np.concatenate(come), 1)

    def forget(self) -> None:
        """Versions seen in a transaction that came to nothing may come again and mean something else."""
        self.versions[1:] = ["-1"] * BUCKETS

    def trusts(self, table: BandTable | None) -> bool:
        """Whether a batch's bands are those that the connection knows."""
        return table is not None and table is self.bands

    def candidates(
        self,
        table: BandTable | None,
        line: NDArray[np.int32] | None,
        sensor_id: NDArray[np.int64],
        metric_id: NDArray[np.int16],
        value: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Which readings a rule could care about, shape (n,); all where the bands are of old."""
        if table is None or line is None or table is not self.bands:
            return np.ones(len(value), dtype=np.bool_)
        found = table.is_outside(line, metric_id, value)
        place = place_of(sensor_id, metric_id)
        if found.any():
            # all of an affected datastream, or the evaluation must look into the stored readings
            is_affected = np.zeros(PLACES, dtype=np.bool_)
            is_affected[place[found]] = True
            found = is_affected[place]
        found |= self._watching[place] > 0
        return found

    def watched(
        self, sensor_id: NDArray[np.int64], metric_id: NDArray[np.int16]
    ) -> NDArray[np.bool_]:
        """Which readings are of a datastream with an unresolved episode, shape (n,)."""
        found: NDArray[np.bool_] = self._watching[place_of(sensor_id, metric_id)] > 0
        return found


def place_of(
    sensor_id: NDArray[np.int64], metric_id: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Where datastreams lie in a set."""
    return (sensor_id * PRIME + metric_id) & (PLACES - 1)
