"""Which groups of shards should move where, and in which order. Pure; nothing is touched.

Sensors are spread over the groups by a hash, so groups grow alike: one weighs half by its bytes and half
as one of many. Groups leave nodes that take none; then, as long as that makes the fullest node
emptier by something worth a move, the best fitting group goes from the fullest to the emptiest.
"""

from collections.abc import Iterable, Mapping

import msgspec

WORTH = 0.1
"""Of the mean node's weight: a smaller gain is not worth a move."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A group of shards, where it lies and how large it is."""

    shard_id: int
    node: int
    size: int
    """Bytes of its readings."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One group that goes to another node."""

    shard_id: int
    source: int
    target: int
    size: int


def make_plan(loads: Iterable[Load], takers: Iterable[int]) -> list[Step]:
    """Moves that leave the groups on the takers alone, as evenly as whole groups allow."""
    loads, takers = sorted(loads, key=lambda load: load.shard_id), sorted(takers)
    if not loads or not takers:
        return []
    mean = sum(load.size for load in loads) / len(loads) or 1.0
    weights = {load.shard_id: load.size + mean for load in loads}
    sizes = {load.shard_id: load.size for load in loads}
    held: dict[int, list[int]] = {node: [] for node in takers}
    homeless: list[Load] = []
    for load in loads:
        if load.node in held:
            held[load.node].append(load.shard_id)
        else:
            homeless.append(load)

    steps = []
    for load in sorted(homeless, key=lambda load: -weights[load.shard_id]):
        target = min(takers, key=lambda node: _weight(held[node], weights))
        held[target].append(load.shard_id)
        steps.append(Step(shard_id=load.shard_id, source=load.node, target=target, size=load.size))
    worth = WORTH * sum(weights.values()) / len(takers)
    moved = {step.shard_id for step in steps}
    while True:
        fullest = max(takers, key=lambda node: _weight(held[node], weights))
        emptiest = min(takers, key=lambda node: _weight(held[node], weights))
        high, low = _weight(held[fullest], weights), _weight(held[emptiest], weights)
        gains = {
            shard_id: high - max(high - weights[shard_id], low + weights[shard_id])
            for shard_id in held[fullest]
            if shard_id not in moved  # none goes twice
        }
        best = max(gains, key=lambda shard_id: gains[shard_id], default=None)
        if best is None or gains[best] < worth:
            return steps
        held[fullest].remove(best)
        held[emptiest].append(best)
        moved.add(best)
        steps.append(Step(shard_id=best, source=fullest, target=emptiest, size=sizes[best]))


def skew(sizes: Iterable[int]) -> float | None:
    """The largest by the mean: 1 is even; None where there is nothing."""
    all_sizes = list(sizes)
    total = sum(all_sizes)
    return max(all_sizes) * len(all_sizes) / total if total else None


def _weight(shard_ids: Iterable[int], weights: Mapping[int, float]) -> float:
    return sum(weights[shard_id] for shard_id in shard_ids)
