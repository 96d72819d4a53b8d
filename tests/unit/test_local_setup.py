"""The set-up scripts: quiet when all is well, plain when it is not."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from app.paths import ROOT

PACKAGES = ROOT / "deploy/local/packages.sh"


def run(
    *argv: str | Path, path: Path | None = None, **variables: str
) -> "subprocess.CompletedProcess[str]":
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    environment = {name: text for name, text in os.environ.items() if name != "YES"}
    return subprocess.run(
        [str(word) for word in argv],
        env=environment | {"PATH": search} | variables,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A folder whose apt-get fails and whose sudo asks nothing."""
    for name, body in {
        "apt-get": 'echo "E: no such mirror"; exit 100',
        "sudo": '[ "$1" = -v ] || exec "$@"',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return tmp_path


def is_debian() -> bool:
    release = Path("/etc/os-release")
    codenames = ("VERSION_CODENAME=bookworm", "VERSION_CODENAME=trixie")
    return release.exists() and any(name in release.read_text() for name in codenames)


@pytest.mark.skipif(not is_debian(), reason="packages.sh is for Debian 12 and 13")
def test_failing_apt_is_shown_with_where_to_read_on(shim: Path) -> None:
    done = run(PACKAGES, path=shim, HEADWATER_PG_BINDIR="/nowhere", YES="1")
    assert done.returncode == 1
    assert "postgresql-17 postgresql-17-timescaledb" in done.stdout
    assert "No database cluster is created and no service is started" in done.stdout
    assert "E: no such mirror" in done.stderr
    assert "setup.log" in done.stderr


def test_the_python_that_is_found_can_make_environments() -> None:
    done = run(ROOT / "deploy/local/python.sh")
    if done.returncode:
        pytest.skip("no Python with venv on this machine's path")
    check = run(done.stdout.strip(), "-c", "import sys, venv; print(sys.version_info >= (3, 11))")
    assert check.stdout == "True\n"


def test_a_command_s_output_is_kept_and_not_shown(tmp_path: Path) -> None:
    script = f'cd "{tmp_path}"; . {ROOT}/deploy/local/quietly.sh; quietly echo hello'
    done = run("bash", "-euc", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "hello" in (tmp_path / ".headwater/log/setup.log").read_text()


def test_the_lock_pins_everything_without_addresses() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert packages
    assert all(line.count("==") == 1 and "/" not in line for line in packages)


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    for requirement in wanted:
        name = requirement.split(">")[0].split("[")[0].split("=")[0]
        assert f"\n{name.lower().replace('_', '-')}==" in lock, name


def test_ci_runs_make_test() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    planned = run("make", "--dry-run", "test").stdout
    for step in ("packages.sh", "venv.sh", "ruff check", "ruff format --check", "mypy", "pytest"):
        assert step in planned
