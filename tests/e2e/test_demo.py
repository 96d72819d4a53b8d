"""`headwater demo` as `make demo` runs it: the report's shape, exit status 0, and again right after."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_database import workers_wanted

from app.demo.bad import BAD
from app.local.credentials import free_port
from app.local.runtime import Runtime
from app.paths import ROOT

NUMBER, TEXT = (int, float), (str,)
SHAPE = {
    "edition": TEXT,
    "citus": (str, type(None)),
    "readings": dict.fromkeys(
        ("sent", "stored", "duplicate", "conflict", "late", "rejected"), (int,)
    ),
    "ingest": dict.fromkeys(("seconds", "readings_per_second"), NUMBER),
    "alerts": {
        **dict.fromkeys(("opened", "resolved", "expected", "missing", "unexpected"), (int,)),
        "latency_ms": dict.fromkeys(("p50", "p99"), NUMBER),
    },
    "rollups": {key: {"rows": (int,), "equal_to_raw": (bool,)} for key in ("1m", "1h", "1d")},
    "urls": dict.fromkeys(("api", "docs", "status"), TEXT),
    "problems": (list,),
}


@pytest.fixture(scope="module")
def state(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A state folder that the servers' user can reach; everything in it ends with the module."""
    with tempfile.TemporaryDirectory(prefix="headwater-demo-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        if workers := workers_wanted(pytestconfig):
            Runtime(state, workers=workers).start().stop()
        yield state
        Runtime(state).destroy()


@pytest.fixture(scope="module")
def runs(state: Path) -> list[tuple[str, dict[str, Any]]]:
    """What two runs in a row printed and reported."""
    return [run(state), run(state)]


def run(state: Path) -> tuple[str, dict[str, Any]]:
    printed = headwater(state, "demo", "--days", "7")
    return printed, json.loads((state / "demo-report.json").read_text())


def headwater(state: Path, *words: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", *words],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if "DATABASE_URL" not in name},
            "HEADWATER_STATE": str(state),
            "HEADWATER_PORT": str(free_port()),
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr + logs(state)
    return done.stdout


def logs(state: Path) -> str:
    return "".join(
        (state / "log" / f"{name}.log").read_text()[-2000:] for name in ("serve", "jobs")
    )


def check_shape(wanted: Any, found: Any, where: str = "report") -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for name, inner in wanted.items():
            check_shape(inner, found[name], f"{where}.{name}")
    else:
        assert type(found) in wanted, f"{where} is {found!r}"


def test_report_has_the_promised_shape(runs: list[tuple[str, dict[str, Any]]]) -> None:
    for _, report in runs:
        check_shape(SHAPE, report)


def test_every_reading_is_accounted_for(runs: list[tuple[str, dict[str, Any]]]) -> None:
    for _, report in runs:
        r = report["readings"]
        assert r["sent"] == r["stored"] + r["duplicate"] + r["conflict"] + r["rejected"]
        assert r["stored"] > 20_000
        assert r["duplicate"] == r["stored"]  # seven days, and the last seven days again
        assert r["rejected"] == len(BAD)


def test_alerts_and_rollups_are_those_that_the_data_demands(
    runs: list[tuple[str, dict[str, Any]]],
) -> None:
    for _, report in runs:
        alerts = report["alerts"]
        assert (alerts["missing"], alerts["unexpected"]) == (0, 0)
        assert alerts["opened"] == alerts["expected"] > 0
        assert all(rollup["equal_to_raw"] for rollup in report["rollups"].values())
        assert report["problems"] == []


def test_report_for_people_says_where_things_are(
    runs: list[tuple[str, dict[str, Any]]], state: Path
) -> None:
    for printed, report in runs:
        assert "Every comparison holds." in printed
        assert report["urls"]["docs"] in printed
        assert str(state / "demo-report.json") in printed


def test_nothing_is_left_running(runs: list[tuple[str, dict[str, Any]]], state: Path) -> None:
    assert len(runs) == 2
    runtime = Runtime(state)
    assert (runtime.pg_pid, runtime.redis_pid) == (None, None)


def test_again_when_a_part_is_archived(runs: list[tuple[str, dict[str, Any]]], state: Path) -> None:
    """Rollups keep what left the database, so they are compared with the rest."""
    assert len(runs) == 2
    runtime = Runtime(state)
    runtime.start()
    try:
        moved = headwater(state, "archive", "run", **runtime.environment(), ARCHIVE_AFTER_DAYS="4")
    finally:
        runtime.stop()
    assert not moved.startswith("0 chunks"), moved
    _, report = run(state)
    assert report["problems"] == []
    assert all(rollup["rows"] for rollup in report["rollups"].values())
