"""The state folder, `.headwater/` by default: who may use it, one at a time, where its data is."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.errors import CommandError
from app.local.account import account_for
from app.local.credentials import POSTGRES, WORKER, worker_number

UNREACHABLE_HOME = Path("/var/lib/headwater")
LOCK_SECONDS = 900.0


def quiet(_: str) -> None:
    """Say nothing."""


class Folder:
    """Paths in the state folder; nothing is created by making this object."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.env = self.path / "env"
        self.run = self.path / "run"
        self.log = self.path / "log"
        self.redis = self.path / "redis"

    @property
    def postgres(self) -> Path:
        """`.headwater/postgres`, or what it points to."""
        return self.home(POSTGRES)

    @property
    def workers(self) -> list[str]:
        """Names of the workers that have a folder."""
        found = (path.name for path in self.path.glob(f"{WORKER}*"))
        return sorted((name for name in found if name[len(WORKER) :].isdigit()), key=worker_number)

    def home(self, node: str) -> Path:
        """A PostgreSQL node's folder, `.headwater/worker-1`, or what it points to."""
        return (self.path / node).resolve()

    def make(self) -> None:
        """Create what is missing, refuse a folder that another user made."""
        try:
            for folder in (self.path, self.run, self.log, self.redis):
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            usable = all(os.access(folder, os.W_OK) for folder in (self.path, self.run, self.log))
        except PermissionError:
            usable = False
        if not usable:
            raise self._foreign()

    def make_home(self, node: str) -> None:
        """Create a cluster's home, in /var/lib where the server's user can't come here (/root).

        Only root runs servers as somebody else, so only root ever gets to /var/lib.
        """
        home = self.path / node
        if home.exists():
            return
        home.unlink(missing_ok=True)  # a dangling link
        home.mkdir(mode=0o755)
        if account_for(home / "data").can_reach(home):
            return
        home.rmdir()
        stem = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        if node != POSTGRES:
            stem += f"-{node}"
        for number in range(1, 1000):  # an earlier checkout's data is not ours to take
            elsewhere = UNREACHABLE_HOME / (stem if number == 1 else f"{stem}-{number}")
            with contextlib.suppress(FileExistsError):
                elsewhere.mkdir(mode=0o755, parents=True)
                home.symlink_to(elsewhere)
                return
        raise CommandError(f"{UNREACHABLE_HOME} is full of old data: remove what is not needed")

    def remove_data(self) -> None:
        """Remove databases, ports and passwords; logs stay."""
        for node in (POSTGRES, *self.workers):
            self.remove_home(node)
        for folder in (self.redis, self.run):
            if folder.exists():
                shutil.rmtree(folder)
        self.env.unlink(missing_ok=True)

    def remove_home(self, node: str) -> None:
        """Remove one node's data."""
        home = self.path / node
        if home.is_symlink():
            shutil.rmtree(home.resolve(), ignore_errors=True)
            home.unlink()
        if home.exists():
            shutil.rmtree(home)

    @contextlib.contextmanager
    def lock(self, say: Callable[[str], None] = quiet) -> Iterator[None]:
        """Hold the folder against other commands; the kernel lets go when the holder dies."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError:
            raise self._foreign() from None
        try:
            if not _try_lock(descriptor):
                say("Waiting for another `headwater dev` …")
                deadline = time.monotonic() + LOCK_SECONDS
                while not _try_lock(descriptor):
                    if time.monotonic() > deadline:
                        raise CommandError(
                            "another `headwater dev` has been at work for very long: end it first"
                        )
                    time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def _foreign(self) -> CommandError:
        return CommandError(
            f"{self.path} belongs to another user: run this as that user or with sudo"
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
