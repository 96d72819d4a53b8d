"""Which shard holds a sensor's readings, and what its tables are called.

Citus puts a sensor on the shard in whose range PostgreSQL's hash of its number falls. The hash is
computed here, for a batch at once, so nothing has to be asked or remembered for a sensor.
"""

from collections.abc import Mapping
from typing import LiteralString

import numpy as np
from numpy.typing import NDArray

from app.db.queries import queries
from app.ingest.batch import COPY_CANDIDATE, COPY_READING
from app.migrate.places import Group, Node, Places, localise, names_in

FUNCTIONS = frozenset({"alert.changed_since", "alert.bands", "telemetry.repair_latest"})
"""What writers call and every group of shards has of its own."""


class Target:
    """Where readings go: statements with the names that tables and functions have there."""

    def __init__(self, names: Mapping[str, str] | None = None, *, rings: bool = False) -> None:
        names = names or {}
        self.copy_reading = _said(COPY_READING, names)
        self.copy_candidate = _said(COPY_CANDIDATE, names)
        self.sql = {name: _said(text, names) for name, text in queries("ingest").items()}
        self.rings = rings
        """Whether the writer rings for alerts, because what judges its readings may not."""


def _said(text: LiteralString, names: Mapping[str, str]) -> LiteralString:
    return localise(text, names)


class ShardMap:
    """The groups of shards at one time."""

    def __init__(self, places: Places) -> None:
        self._begins = np.array([group.begins for group in places.groups], dtype=np.int64)
        self.groups: tuple[Group, ...] = places.groups
        self.nodes: tuple[Node, ...] = tuple(sorted({group.node for group in places.groups}))
        self.node_of = np.array([self.nodes.index(group.node) for group in places.groups])
        """For each group the position of its node in `nodes`."""

    def group_of(self, sensor_id: NDArray[np.int64]) -> NDArray[np.int32]:
        """Position in `groups` of each sensor's; shape (n,)."""
        found = np.searchsorted(self._begins, hash_of(sensor_id), side="right") - 1
        return found.astype(np.int32)

    def on_node(self, sensor_ids: list[int], host: str, port: int) -> list[int]:
        """Those of the sensors that lie on a node."""
        return [
            number
            for number, node in zip(sensor_ids, self._nodes_of(sensor_ids), strict=True)
            if (node.host, node.port) == (host, port)
        ]

    def by_node(self, sensor_ids: list[int]) -> list[list[int]]:
        """The sensors, node by node."""
        found: dict[Node, list[int]] = {}
        for number, node in zip(sensor_ids, self._nodes_of(sensor_ids), strict=True):
            found.setdefault(node, []).append(number)
        return list(found.values())

    def _nodes_of(self, sensor_ids: list[int]) -> list[Node]:
        group = self.group_of(np.array(sensor_ids, dtype=np.int64))
        return [self.nodes[position] for position in self.node_of[group]]

    def targets(self, node: Node) -> dict[int, Target]:
        """The targets on a node by position in `groups`."""
        return {
            number: Target(names_in(group, FUNCTIONS))
            for number, group in enumerate(self.groups)
            if group.node == node
        }


def hash_of(number: NDArray[np.int64]) -> NDArray[np.int32]:
    """PostgreSQL's hashint8: the last mix of Bob Jenkins' lookup3 over one 32-bit word."""
    bits = number.view(np.uint64)
    low, high = bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)
    a = low ^ np.where(number >= 0, high, ~high)
    start = np.uint32((0x9E3779B9 + 4 + 3923095) & 0xFFFFFFFF)
    a, b, c = a + start, np.full_like(a, start), np.full_like(a, start)
    for turn in (14, 11, 25, 16, 4, 14, 24):
        # c from b, a from c, b from a, and so on round
        c = (c ^ b) - (b << np.uint32(turn) | b >> np.uint32(32 - turn))
        a, b, c = b, c, a
    return b.view(np.int32)
