"""What may be left out of the evaluation, and what never."""

import numpy as np

from app.ingest.band import RULES, BandKeeper, BandTable, Watch

INF = float("inf")


def outside(
    table: BandTable, place: tuple[int, int | None, int], metric: int, value: float
) -> bool:
    line = np.array([table.line_of(*place)], dtype=np.int32)
    return bool(table.is_outside(line, np.array([metric], dtype=np.int16), np.array([value]))[0])


def test_without_rules_nothing_is_outside() -> None:
    assert not outside(BandTable([]), (1, None, 1), 5, 1e9)


def test_the_limit_itself_is_inside() -> None:
    table = BandTable([(1, None, None, 2, 4.0, 8.0)])
    assert not outside(table, (1, None, 1), 2, 8.0)
    assert not outside(table, (1, None, 1), 2, 4.0)
    assert outside(table, (1, None, 1), 2, 8.0000001)
    assert outside(table, (1, None, 1), 2, 3.9999999)


def test_other_tenants_metrics_and_unknown_metrics_do_not_count() -> None:
    table = BandTable([(1, None, None, 2, 4.0, 8.0)])
    assert not outside(table, (2, None, 1), 2, 100.0)
    assert not outside(table, (1, None, 1), 1, 100.0)
    assert not outside(table, (1, None, 1), 30, 100.0)


def test_the_narrowest_scope_counts_even_where_a_wider_override_would_win() -> None:
    table = BandTable(
        [
            (None, None, None, 2, -INF, 20.0),
            (1, None, None, 2, -INF, 8.0),
            (1, 7, None, 2, 5.0, INF),
            (1, None, 99, 2, -INF, 12.0),
        ],
    )
    assert outside(table, (1, 7, 99), 2, 9.0)  # the tenant's 8, though the sensor says 12
    assert outside(table, (1, 7, 99), 2, 4.0)  # the site's 5
    assert not outside(table, (1, 8, 99), 2, 4.0)
    assert outside(table, (2, None, 1), 2, 21.0)  # the platform's 20
    assert not outside(table, (2, None, 1), 2, 9.0)


def test_many_lines_keep_their_limits() -> None:
    table = BandTable([(1, None, n, 1, -INF, float(n)) for n in range(1, 300)])
    lines = np.array([table.line_of(1, None, n) for n in range(1, 300)], dtype=np.int32)
    metric = np.ones(299, dtype=np.int16)
    limits = np.arange(1, 300, dtype=np.float64)
    assert not table.is_outside(lines, metric, limits).any()
    assert table.is_outside(lines, metric, limits + 0.5).all()


def candidates(
    watch: Watch, table: BandTable, sensors: list[int], values: list[float]
) -> list[bool]:
    line = np.array([table.line_of(1, None, s) for s in sensors], dtype=np.int32)
    return watch.candidates(
        table, line, np.array(sensors), np.ones(len(sensors), dtype=np.int16), np.array(values)
    ).tolist()


def test_everything_is_a_candidate_until_the_rules_version_is_known() -> None:
    watch, table = Watch(), BandTable([])
    assert candidates(watch, table, [1, 2], [0.0, 0.0]) == [True, True]
    watch.learn([(RULES, 3, [], [])])
    assert candidates(watch, table, [1, 2], [0.0, 0.0]) == [True, True]
    watch.bands = table
    assert candidates(watch, table, [1, 2], [0.0, 0.0]) == [False, False]
    watch.learn([(RULES, 4, [], [])])
    assert candidates(watch, table, [1, 2], [0.0, 0.0]) == [True, True]


def test_sensors_with_an_unresolved_episode_are_candidates_until_it_is_gone() -> None:
    watch, table = Watch(), BandTable([(1, None, None, 1, -INF, 8.0)])
    watch.learn([(RULES, 1, [], []), (5, 1, [5, 261], [1, 1])])
    watch.bands = table
    assert candidates(watch, table, [4, 5, 261], [7.0, 7.0, 7.0]) == [False, True, True]
    watch.learn([(5, 2, [261], [1])])
    assert candidates(watch, table, [4, 5, 261], [7.0, 7.0, 7.0]) == [False, False, True]


def test_only_the_datastream_with_an_unresolved_episode_is_a_candidate() -> None:
    watch, table = Watch(), BandTable([(1, None, None, 1, -INF, 8.0)])
    watch.learn([(RULES, 1, [], []), (5, 1, [5, 5], [2, 2])])  # two of its limits are violated
    watch.bands = table
    assert candidates(watch, table, [5], [7.0]) == [False]
    watch.learn([(5, 2, [5, 5], [1, 2])])
    assert candidates(watch, table, [5], [7.0]) == [True]


def test_what_was_learned_in_vain_is_asked_for_again() -> None:
    watch = Watch()
    watch.learn([(RULES, 2, [], []), (1, 7, [1], [1])])
    watch.forget()
    assert watch.versions == ["2"] + 256 * ["-1"]


def test_a_violation_brings_along_all_that_its_sensor_sent() -> None:
    watch, table = Watch(), BandTable([(1, None, None, 1, -INF, 8.0)])
    watch.learn([(RULES, 1, [], [])])
    watch.bands = table
    assert candidates(watch, table, [4, 5, 4], [9.0, 7.0, 7.0]) == [True, False, True]


def test_versions_go_from_that_of_the_rules_to_the_last_bucket() -> None:
    watch = Watch()
    watch.learn([(RULES, 2, [], []), (1, 7, [], []), (255, 9, [], [])])
    assert watch.versions == ["2", "-1", "7"] + 253 * ["-1"] + ["9"]


def test_nodes_that_say_the_same_share_a_table() -> None:
    keeper = BandKeeper()
    first = keeper.take([(1, None, None, 1, -INF, 8.0)])
    assert keeper.take([(1, None, None, 1, -INF, 8.0)]) is first
    assert keeper.take([(1, None, None, 1, -INF, 9.0)]) is not first
