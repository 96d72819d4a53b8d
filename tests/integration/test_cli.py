"""What a command's end tells the shell."""

import os
import subprocess
import sys
from pathlib import Path

from app.paths import ROOT


def ended_with(state: Path, *arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", *arguments],
        cwd=ROOT,
        env=os.environ | {"HEADWATER_STATE": str(state)},
        capture_output=True,
        check=False,
    ).returncode


def test_an_exit_status_reaches_the_shell(tmp_path: Path) -> None:
    """`dev status` says 3 where servers are down."""
    (tmp_path / "env").write_text(
        "DATABASE_URL=postgresql://headwater_app:x@127.0.0.1:1/headwater\n"
        "REDIS_URL=redis://:x@127.0.0.1:2/0\n"
    )
    assert ended_with(tmp_path, "dev", "status") == 3
    assert ended_with(tmp_path, "--version") == 0
    assert ended_with(tmp_path, "dev", "nothing") == 2
