"""Every command of README.md, in order, in one shell, as a newcomer would type them.

Each ```sh block is run, or stands in SPECIAL with the check it gets instead; a block that is in neither
can't exist. A ```json or ```console block after it shows a part of what the block prints: objects
may have more fields than shown, and numbers, times and identifiers may differ.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.local.credentials import free_port
from app.local.runtime import Runtime
from app.paths import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "### block"

# commands that install packages or need Docker: the check that stands in for running them
SPECIAL = {
    "make demo": ["make", "-n", "demo"],  # what it runs is tests/e2e/test_demo.py
    "make test": ["make", "-n", "test"],  # it is what runs this
    "make setup": ["make", "-n", "setup"],  # its scripts: tests/unit/test_local_setup.py
    "cp deploy/env.example .env\ndocker compose up": [
        *("docker", "compose", "--env-file", "deploy/env.example", "config", "--quiet"),
    ],
}


class Block:
    """A ```sh block and the ones that show what it prints."""

    def __init__(self, number: int, script: str) -> None:
        self.number = number
        self.script = script.strip()
        self.shown: list[tuple[str, str]] = []


def blocks() -> list[Block]:
    """All of the README's, in order."""
    found: list[Block] = []
    for language, text in BLOCK.findall(README.read_text()):
        if language == "sh":
            found.append(Block(len(found), text))
        elif language in ("json", "console"):
            found[-1].shown.append((language, text))
        else:
            assert language == "mermaid", f"README: a block of {language!r}: sh, json or console?"
    return found


BLOCKS = blocks()
RUN = [block for block in BLOCKS if block.script not in SPECIAL]


@pytest.fixture(scope="module")
def printed() -> Iterator[dict[int, str]]:
    """What each block printed; fails with the block that failed."""
    script = ["set -e", "exec 2>&1"]
    for block in RUN:
        script += [f"echo; echo '{MARK} {block.number}'", block.script]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADWATER_", "PG"))
        and not name.endswith(("DATABASE_URL", "REDIS_URL"))
    }
    if "HEADWATER_PG_BINDIR" in os.environ:
        environment["HEADWATER_PG_BINDIR"] = os.environ["HEADWATER_PG_BINDIR"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    environment["HEADWATER_PORT"] = str(free_port())
    with tempfile.TemporaryDirectory(prefix="headwater-readme-") as folder:
        Path(folder).chmod(0o755)  # the servers' user has to get in
        state = Path(folder) / "state"
        environment["HEADWATER_STATE"] = str(state)
        process = subprocess.Popen(
            ["bash", "-c", "\n".join(script)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=300)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what the last block did not end
            Runtime(state).destroy()
    assert process.returncode == 0, f"the last block failed:\n{output[-4000:]}"
    parts = re.split(rf"^{MARK} (\d+)$", output, flags=re.MULTILINE)
    yield dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))


@pytest.mark.parametrize("command", SPECIAL)
def test_special_block_is_there_and_sound(command: str) -> None:
    assert command in {block.script for block in BLOCKS}, f"{command!r} left the README"
    check = SPECIAL[command]
    if check[0] == "docker" and not has_compose():
        pytest.skip("no docker compose here; tests/contract/test_compose.py reads the file")
    subprocess.run(check, cwd=ROOT, check=True, capture_output=True)


def has_compose() -> bool:
    try:
        return not subprocess.run(
            ["docker", "compose", "version"], check=False, capture_output=True
        ).returncode
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.script.splitlines()[0][:40])
def test_block_prints_what_the_readme_shows(block: Block, printed: dict[int, str]) -> None:
    output = printed[block.number]
    assert "Traceback" not in output
    assert '"type":"/problems/' not in output, output
    for language, text in block.shown:
        if language == "json":
            assert any(holds(json.loads(text), found) for found in objects(output)), output
        else:
            for line in text.strip().splitlines():
                assert plain(line) in plain(output), f"{line!r} is not in\n{output}"


def plain(text: str) -> str:
    """Numbers and the width of gaps and rules don't count."""
    text = re.sub(r"[\d.,]*\d", "0", text)
    return re.sub(r"-+", "-", re.sub(r"[ \t]+", " ", text)).strip()


def objects(output: str) -> Iterator[Any]:
    """Every JSON object in it; answers may follow each other without a line break."""
    decoder = json.JSONDecoder()
    begin = output.find("{")
    while begin >= 0:
        try:
            found, begin = decoder.raw_decode(output, begin)
            yield found
        except json.JSONDecodeError:
            begin += 1
        begin = output.find("{", begin)


def holds(shown: Any, found: Any) -> bool:
    """Whether what was found has all that is shown; lists show their beginning."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and all(
            name in found and holds(value, found[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(found, list)
            and len(found) >= len(shown)
            and all(map(holds, shown, found[: len(shown)]))
        )
    if shown == "healthy":
        return found in ("healthy", "degraded")  # the jobs have just been started
    if shown == "apache":
        return found in ("apache", "community")
    if isinstance(shown, int | float) and not isinstance(shown, bool):
        return isinstance(found, int | float)
    return bool(shown == found)
