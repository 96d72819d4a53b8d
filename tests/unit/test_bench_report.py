"""Goals are judged as they are written down, and the README's table is that of the reports."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import report as reports
from bench.__main__ import REPORTS
from bench.report import Report, judge, merge, percentile
from bench.table import BEGIN, END, FRONT_PAGE, README, ingest_table, markdown, write_readme


def make_report() -> Report:
    """A report of one goal."""
    return Report(
        scenario="ingest-batch",
        at=datetime(2026, 11, 21, tzinfo=UTC),
        machine={
            "cpu": "Z80",
            "cores": 1,
            "memory_gb": 0.1,
            "kernel": "6",
            "load_before": 0.1,
        },
        versions={"postgresql": "17", "timescaledb": "2.19.3", "edition": "apache"},
        settings={},
        goals=[judge("rows", 0.912345, ">= 0.9")],
        results=[{"ratio": 0.912345}],
        notes=["a note"],
    )


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [
        (0.9, ">= 0.9", True),
        (0.8999, ">= 0.9", False),
        (50.0, "<= 50", True),
        (50.1, "<= 50", False),
        (300.0, "< 300", False),
        (1.1, "> 1", True),
    ],
)
def test_goal_is_met_on_its_own_side(value: float, goal: str, met: bool) -> None:
    assert judge("x", value, goal).met is met


def test_what_was_not_measured_is_not_met() -> None:
    goal = judge("x", None, ">= 0.9")
    assert (goal.value, goal.met) == (None, False)


def test_rounding_never_turns_a_miss_into_a_hit() -> None:
    goal = judge("x", 0.899999, ">= 0.9")
    assert not goal.met


def test_goal_without_a_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="starts with one of"):
        judge("x", 1, "about 1")


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert percentile([1.0, 9.0], 0.99) == 9


def test_report_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    made = make_report()
    reports.save(made, path)
    assert reports.load(path) == made


def test_table_shows_goal_machine_and_note(tmp_path: Path) -> None:
    text = markdown([make_report()])
    assert "| ingest-batch | apache | rows | >= 0.9 | 0.9123 | yes |" in text
    assert "1 cores (Z80)" in text
    assert "TimescaleDB 2.19.3 (apache edition)" in text
    assert "- ingest-batch: a note" in text
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(text, readme)
    assert readme.read_text() == f"before\n{BEGIN}\n{text}\n{END}\nafter\n"


def test_committed_table_is_made_from_the_committed_reports() -> None:
    found = reports.load_all(REPORTS)
    assert shown(README) == markdown(found)
    assert shown(FRONT_PAGE) == ingest_table(found)


def shown(page: Path) -> str:
    return page.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def test_parts_of_a_scenario_become_one_report() -> None:
    rows, columns = make_report(), make_report()
    columns.goals = [judge("columnar", 0.95, ">= 0.9")]
    columns.results = [{"ratio": 0.95}]
    columns.notes = ["a note", "another"]
    whole = merge([rows, columns])
    assert [goal.name for goal in whole.goals] == ["rows", "columnar"]
    assert whole.results == [{"ratio": 0.912345}, {"ratio": 0.95}]
    assert whole.notes == ["a note", "another"]


def test_parts_of_different_versions_do_not_mix() -> None:
    other = make_report()
    other.versions = other.versions | {"edition": "community"}
    with pytest.raises(ValueError, match="differ in versions"):
        merge([make_report(), other])
