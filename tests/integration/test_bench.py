"""A scenario from start to end, tiny: servers of its own, load, checks, report."""

import os
import subprocess
import sys
from pathlib import Path

from app.paths import ROOT
from bench.report import load


def test_smallest_run_writes_a_whole_report(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "ingest-batch", "--seconds", "0.01", "--repeats", "1",
            "--only", "1000/columnar/2", "--out", str(out),
        ],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr  # 3: a goal is not met, as is likely here
    report = load(out)
    assert [goal.name for goal in report.goals] == [
        "columnar, 1,000 readings a batch, ratio to COPY"
    ]
    (result,) = report.results
    assert result["readings"] == 4_000
    assert 0 < result["ratio"] < 10
    assert report.settings["fsync"] == "on"
    assert {"postgresql", "timescaledb", "edition", "python", "granian"} <= set(report.versions)
    assert done.returncode == (0 if report.is_met else 3)
