"""Which operating-system user the servers run as, and starting programs as that user.

PostgreSQL refuses to run as root. Root therefore hands the servers to the `postgres` system user,
or to `nobody` where there is none; everybody else runs them as himself. Data that already belongs
to some other ordinary user stays his.
"""

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from app.errors import CommandError

KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")


class Account(msgspec.Struct, frozen=True):
    """A system user."""

    name: str
    uid: int
    gid: int

    @property
    def is_me(self) -> bool:
        """Whether this process already runs as that user."""
        return self.uid == os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """Arguments of subprocess that start a program as this user, in a neutral environment.

        PG* variables of the caller would change what the server does, so they are left out.
        """
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "TZ": "UTC", "HOME": "/"}
        arguments: dict[str, Any] = {"cwd": "/", "env": environment, "umask": 0o077}
        if not self.is_me:
            arguments |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return arguments

    def run(
        self, *argv: str | Path, text_input: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a short program to its end."""
        return subprocess.run(
            [str(word) for word in argv],
            input=text_input,
            capture_output=True,
            text=True,
            check=False,
            **self.popen_arguments(),
        )

    def can_reach(self, folder: Path) -> bool:
        """Whether the user may use what is in `folder`; asked of the system, as that user."""
        return self.is_me or self.run("test", "-x", folder).returncode == 0


def account_for(data: Path) -> Account:
    """The user for the servers whose data is (or will be) in `data`."""
    owner = _owner(data)
    if os.geteuid() != 0:
        me = _by_uid(os.geteuid())
        if owner is not None and owner != me.uid:
            name = _by_uid(owner).name
            raise CommandError(f"{data} belongs to user {name}: run this as {name} or with sudo")
        return me
    if owner:
        return _by_uid(owner)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise CommandError(
        "PostgreSQL can't run as root, and there is no user 'postgres': run `make setup`, "
        "or run this as an ordinary user"
    )


def hand_over(descriptor: int, folder: Path) -> None:
    """Give a file that root just made to whom its folder belongs, who will want to write it too."""
    if os.geteuid() == 0:
        place = folder.stat()
        os.fchown(descriptor, place.st_uid, place.st_gid)


def _owner(data: Path) -> int | None:
    try:
        return data.stat().st_uid
    except FileNotFoundError:
        return None
    except PermissionError:
        raise CommandError(
            f"{data} can't be reached by this user: run this as its owner or with sudo"
        ) from None


def _by_uid(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container's bare uid
        return Account(str(uid), uid, os.getegid())
    return Account(entry.pw_name, uid, entry.pw_gid)
