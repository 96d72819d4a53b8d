"""What a run found: the machine, the settings, the numbers, and whether the goals are met."""

import operator
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from app.paths import ROOT

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
PACKAGES = (
    "headwater", "granian", "litestar", "msgspec", "numpy", "psycopg", "uvloop", "duckdb", "pyarrow",
)  # fmt: skip


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """One number that was promised."""

    name: str
    value: float | None
    """None: it could not be measured here, and counts as not met."""
    goal: str
    """Like ">= 0.9"."""
    met: bool


class Report(msgspec.Struct, kw_only=True):
    """The file that `--out` writes."""

    scenario: str
    at: datetime
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    goals: list[Goal]
    results: list[dict[str, Any]]
    notes: list[str]
    seconds: float = 0.0

    @property
    def is_met(self) -> bool:
        """Every goal."""
        return all(goal.met for goal in self.goals)


def judge(name: str, value: float | None, goal: str) -> Goal:
    """Compare a value with a goal like ">= 0.9". Raises ValueError for any other form."""
    sign, _, number = goal.partition(" ")
    if sign not in COMPARISONS:
        raise ValueError(f"a goal starts with one of {', '.join(COMPARISONS)}: {goal!r}")
    met = value is not None and COMPARISONS[sign](value, float(number))
    return Goal(name=name, value=None if value is None else rounded(value), goal=goal, met=met)


def rounded(value: float, digits: int = 4) -> float:
    """Enough digits for whoever compares, none for the noise."""
    return float(f"{value:.{digits}g}")


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1_000_000) * len(ordered) // 1_000_000) - 1)]


def machine() -> dict[str, Any]:
    """What it ran on."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2] for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": names[0].strip() if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(database: dict[str, str]) -> dict[str, str]:
    """Of everything that takes part; `database` adds the server's."""
    found = {"python": platform.python_version()} | database
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if commit.returncode == 0:
        found["commit"] = commit.stdout.strip()
    return found


def begin(scenario: str) -> Report:
    """An empty report."""
    return Report(
        scenario=scenario,
        at=datetime.now(UTC),
        machine=machine(),
        versions={},
        settings={},
        goals=[],
        results=[],
        notes=[],
    )


def save(report: Report, path: Path) -> None:
    """As JSON that people can read and compare."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def merge(parts: Sequence[Report]) -> Report:
    """One report of a scenario whose cells were measured in several runs, on one machine and version.

    Raises ValueError where they are of different ones.
    """
    first = parts[0]
    for part in parts:
        for name, ours, theirs in (
            ("scenario", first.scenario, part.scenario),
            ("versions", first.versions, part.versions),
            ("cpu", first.machine["cpu"], part.machine["cpu"]),
        ):
            if ours != theirs:
                raise ValueError(f"the parts differ in {name}: {ours} and {theirs}")
    goals = {goal.name: goal for part in parts for goal in part.goals}
    return Report(
        scenario=first.scenario,
        at=first.at,
        machine=first.machine | {"load_before": max(p.machine["load_before"] for p in parts)},
        versions=first.versions,
        settings=first.settings | {"only": [part.settings.get("only", "") for part in parts]},
        goals=list(goals.values()),
        results=[result for part in parts for result in part.results],
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
        seconds=round(sum(part.seconds for part in parts), 1),
    )


def load(path: Path) -> Report:
    """A report that `save` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def load_all(folder: Path) -> list[Report]:
    """A folder's reports by name; an edition's own come after the scenario's first."""
    return [load(path) for path in sorted(folder.glob("*.json"), key=lambda path: path.stem)]
