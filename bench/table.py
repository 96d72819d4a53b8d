"""Reports as a Markdown table: goals, what was found, on which machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.paths import ROOT
from bench.report import Report

README = Path(__file__).parent / "README.md"
FRONT_PAGE = ROOT / "README.md"
"""Has the first report of INGEST, cell by cell."""
INGEST = "ingest-batch"
BEGIN = "<!-- made by: python -m bench table --write -->"
CAPACITY = "<!-- made by: python -m bench capacity --write -->"
END = "<!-- end -->"


def markdown(reports: Sequence[Report]) -> str:
    """One line a goal, then the machines."""
    lines = ["| scenario | edition | goal | wanted | found | met |", "|---|---|---|---|---|---|"]
    for report in reports:
        for goal in report.goals:
            found = "not measured" if goal.value is None else f"{goal.value:g}"
            met = "yes" if goal.met else "**no**"
            lines.append(
                f"| {report.scenario} | {report.versions.get('edition', '?')} | {goal.name}"
                f" | {goal.goal} | {found} | {met} |"
            )
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


def write_readme(text: str, path: Path, *, begin: str = BEGIN) -> None:
    """Replace what stands between the marks."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{begin}\n{text}\n{END}{after}")


def ingest_table(reports: Sequence[Report]) -> str:
    """What the front page shows: readings a second of each form of batch, and the machine."""
    report = next(report for report in reports if report.scenario == INGEST)
    best: dict[tuple[int, str], dict[str, Any]] = {}
    for cell in report.results:
        key = cell["batch"], cell["format"]
        if key not in best or cell["ratio"] > best[key]["ratio"]:
            best[key] = cell
    lines = [
        "| readings a batch | form | clients | readings/s | of COPY |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {batch:,} | {form} | {cell['clients']} | {cell['readings_per_second']:,.0f}"
        f" | {cell['ratio']:.0%} |"
        for (batch, form), cell in sorted(best.items(), reverse=True)
    ]
    return "\n".join([*lines, "", describe(report)])
