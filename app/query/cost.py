"""What a plan says it costs, on one server or on many."""

from typing import Any, NamedTuple


class Cost(NamedTuple):
    """In the planner's units and in rows."""

    cost: float
    rows: float


def cost_of(plan: dict[str, Any]) -> Cost:
    """Of `explain (format json)`: the plan's own and that of every task on other nodes.

    A distributed plan shows one of its tasks; the others are taken to be like it.
    """
    far = [_job(job) for job in _jobs(plan)]
    return Cost(
        plan["Total Cost"] + sum(one.cost for one in far),
        max([plan["Plan Rows"], *(one.rows for one in far)]),
    )


def _job(job: dict[str, Any]) -> Cost:
    shown = [
        cost_of(remote["Plan"])
        for task in job.get("Tasks", [])
        for remotes in task.get("Remote Plan", [])
        for remote in remotes
        if "Plan" in remote
    ]
    if not shown:
        return Cost(0.0, 0.0)
    times = job.get("Task Count", len(shown)) / len(shown)
    return Cost(times * sum(one.cost for one in shown), times * sum(one.rows for one in shown))


def _jobs(node: Any) -> list[dict[str, Any]]:
    """Jobs anywhere in a plan, but not inside of each other."""
    if isinstance(node, list):
        return [job for one in node for job in _jobs(one)]
    if not isinstance(node, dict):
        return []
    found = [node["Job"]] if "Job" in node else []
    return found + [job for key, one in node.items() if key != "Job" for job in _jobs(one)]
