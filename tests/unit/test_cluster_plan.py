"""Which groups move: as few as needed, never in circles, and nothing stays where nothing may be."""

import random

import pytest

from app.cluster.plan import Load, make_plan, skew

MB = 1 << 20


def loads(*nodes: int, size: int = 100 * MB) -> list[Load]:
    return [Load(shard_id=number, node=node, size=size) for number, node in enumerate(nodes)]


def counts(found: list[Load], takers: list[int]) -> dict[int, int]:
    """Groups by node once the plan is carried out."""
    place = {load.shard_id: load.node for load in found}
    for step in make_plan(found, takers):
        assert place[step.shard_id] == step.source
        place[step.shard_id] = step.target
    return {node: list(place.values()).count(node) for node in takers}


def test_a_new_node_gets_its_share_and_no_more_moves_than_that() -> None:
    found = loads(*[1] * 8, *[2] * 8)
    steps = make_plan(found, [1, 2, 3])
    assert len(steps) == 5
    assert {step.target for step in steps} == {3}
    assert sorted(counts(found, [1, 2, 3]).values()) == [5, 5, 6]


def test_even_nodes_are_left_alone() -> None:
    assert make_plan(loads(1, 2, 1, 2), [1, 2]) == []
    assert make_plan(loads(1, 1, 2, 2, 3), [1, 2, 3]) == []
    assert make_plan(loads(1, 2, size=0), [1, 2]) == []


def test_a_plan_that_was_carried_out_leaves_nothing_to_do() -> None:
    dice = random.Random(5)
    for _ in range(300):
        takers = list(range(1, dice.randint(2, 7)))
        found = [
            Load(shard_id=n, node=dice.randint(1, 7), size=dice.choice([0, 1, 10, 500]) * MB)
            for n in range(dice.randint(1, 40))
        ]
        steps = make_plan(found, takers)
        assert len({step.shard_id for step in steps}) == len(steps)
        place = {step.shard_id: step.target for step in steps}
        after = [
            Load(shard_id=x.shard_id, node=place.get(x.shard_id, x.node), size=x.size)
            for x in found
        ]
        assert {load.node for load in after} <= set(takers)
        # a group that moved may move once more in a second plan, but it comes to rest
        for _ in range(5):
            again = {step.shard_id: step.target for step in make_plan(after, takers)}
            if not again:
                break
            after = [
                Load(shard_id=x.shard_id, node=again.get(x.shard_id, x.node), size=x.size)
                for x in after
            ]
        else:
            pytest.fail("groups go round in circles")


def test_a_node_that_takes_none_is_emptied_evenly() -> None:
    found = loads(1, 2, 3, 3, 3, 3)
    assert counts(found, [1, 2]) == {1: 3, 2: 3}


def test_large_groups_count_more() -> None:
    found = [
        Load(shard_id=1, node=1, size=900 * MB),
        Load(shard_id=2, node=1, size=900 * MB),
        Load(shard_id=3, node=2, size=1 * MB),
        Load(shard_id=4, node=2, size=1 * MB),
    ]
    (step, *_) = make_plan(found, [1, 2])
    assert (step.source, step.target, step.size) == (1, 2, 900 * MB)


def test_without_groups_or_takers_there_is_nothing_to_do() -> None:
    assert make_plan([], [1, 2]) == []
    assert make_plan(loads(1, 2), []) == []


def test_skew_is_the_largest_by_the_mean() -> None:
    assert skew([10, 10]) == 1
    assert skew([30, 0, 0]) == 3
    assert skew([0, 0]) is None
    assert skew([]) is None
