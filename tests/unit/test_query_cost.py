"""A plan's cost is that of all its parts, wherever they run."""

from typing import Any

from app.query.cost import cost_of


def scan(cost: float, rows: float) -> dict[str, Any]:
    return {"Node Type": "Seq Scan", "Total Cost": cost, "Plan Rows": rows}


def spread(tasks: int, cost: float, rows: float) -> dict[str, Any]:
    task = {"Node": "host=a", "Remote Plan": [[{"Plan": scan(cost, rows)}]]}
    job = {"Task Count": tasks, "Tasks Shown": "One of many", "Tasks": [task]}
    return {
        "Node Type": "Custom Scan", "Total Cost": 0.0, "Plan Rows": 100_000,
        "Distributed Query": {"Job": job},
    }  # fmt: skip


def test_on_one_server_it_is_the_planners() -> None:
    assert cost_of(scan(12.5, 7)) == (12.5, 7)


def test_every_task_counts_though_one_is_shown() -> None:
    assert cost_of(spread(8, 10.0, 50_000)) == (80.0, 400_000)


def test_parts_below_other_parts_count() -> None:
    plan = {
        "Node Type": "Aggregate",
        "Total Cost": 250.0,
        "Plan Rows": 1,
        "Plans": [spread(4, 2.0, 1)],
    }
    assert cost_of(plan) == (258.0, 4)


def test_a_node_that_gave_no_plan_costs_nothing() -> None:
    plan = spread(1, 1.0, 1)
    plan["Distributed Query"]["Job"]["Tasks"] = [{"Error": "gone"}]
    assert cost_of(plan).cost == 0.0
