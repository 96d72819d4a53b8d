"""Throw-away runtimes for tests and comparisons, in the system's folder for temporary files."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from app.errors import CommandError
from app.local import processes
from app.local.runtime import PRELOAD, Runtime

PREFIX = "headwater-test-"


@contextlib.contextmanager
def temporary(
    *,
    bindir: Path | None = None,
    preload: Sequence[str] = PRELOAD,
    settings: Mapping[str, str] | None = None,
    with_redis: bool = True,
    workers: int | None = None,
) -> Iterator[Runtime]:
    """A small runtime of one's own, gone at the end, or by the next call if the caller dies."""
    sweep()
    state = Path(tempfile.mkdtemp(prefix=PREFIX))
    state.chmod(0o755)
    processes.register("owner", os.getpid(), run=state)
    small = {"shared_buffers": "128MB", "max_wal_size": "1GB", "min_wal_size": "80MB"}
    runtime = Runtime(
        state,
        bindir=bindir,
        preload=preload,
        settings=small | dict(settings or {}),
        with_redis=with_redis,
        workers=workers,
    )
    try:
        yield runtime.start()
    finally:
        runtime.destroy()
        shutil.rmtree(state, ignore_errors=True)


def sweep() -> None:
    """Remove temporary runtimes whose maker was killed."""
    for state in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(CommandError, OSError):  # its maker may be removing it right now
            mine = state.stat().st_uid == os.geteuid() and (state / "owner.pid").exists()
            if mine and not processes.alive("owner", run=state):
                Runtime(state).destroy()
                shutil.rmtree(state, ignore_errors=True)
