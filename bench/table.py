"""Reports as a Markdown table: goals, what was found, on which machine."""

from collections.abc import Sequence
from pathlib import Path

from bench.report import Report

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- made by: python -m bench table --write -->"
END = "<!-- end -->"


def markdown(reports: Sequence[Report]) -> str:
    """One line a goal, then the machines."""
    lines = ["| scenario | goal | wanted | found | met |", "|---|---|---|---|---|"]
    for report in reports:
        for goal in report.goals:
            found = "not measured" if goal.value is None else f"{goal.value:g}"
            met = "yes" if goal.met else "**no**"
            lines.append(f"| {report.scenario} | {goal.name} | {goal.goal} | {found} | {met} |")
    described = dict.fromkeys(describe(report) for report in reports)
    notes = dict.fromkeys(f"{r.scenario}: {note}" for r in reports for note in r.notes)
    return "\n".join([*lines, "", *described, *(f"- {note}" for note in notes)])


def describe(report: Report) -> str:
    """The machine and what ran on it, in a sentence."""
    machine, versions = report.machine, report.versions
    server = ", ".join(
        f"{title} {versions[name]}{suffix}"
        for name, title, suffix in (
            ("postgresql", "PostgreSQL", ""),
            ("timescaledb", "TimescaleDB", f" ({versions.get('edition', '?')} edition)"),
            ("python", "Python", ""),
        )
        if name in versions
    )
    return (
        f"Measured {report.at:%Y-%m-%d} on {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gb']} GB, Linux {machine['kernel']}; {server}; "
        "client, API and database share the machine."
    )


def write_readme(reports: Sequence[Report], path: Path = README) -> None:
    """Replace the table between the marks."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{markdown(reports)}\n{END}{after}")
