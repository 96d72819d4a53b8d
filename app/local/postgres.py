"""One private PostgreSQL cluster: create, start, stop, crash, recover.

Layout under `home` (owned by whoever runs the command, so that nothing of it can be swapped by
the server's user): postgresql.conf and pg_hba.conf, rewritten at each start, data/, which belongs
to the server's user, and on a node of several the passfile, with which its backends log in on the
others. It listens on 127.0.0.1 only, without Unix sockets, whose path may
not be longer than 107 characters. A server is recognised by its working directory, the data
directory, so neither a stale postmaster.pid nor a reused pid is mistaken for it.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from app.errors import CommandError
from app.local import processes
from app.local.account import Account
from app.local.credentials import HOST, SUPERUSER
from app.local.tuning import MB, render, settings_for, this_machine

DEFAULT_BINDIR = Path("/usr/lib/postgresql/17/bin")
MAJOR = "17"
START_SECONDS = 900.0  # a crash recovery reads up to max_wal_size
STOP_SECONDS = 120.0
UNFINISHED = "data.new."
NEEDED_FREE_BYTES = 300 * MB


class PortTakenError(Exception):
    """Somebody else listens on the port."""


class Cluster:
    """A cluster in `home`; nothing is started by making this object."""

    def __init__(
        self, home: Path, account: Account, bindir: Path, log: Path, *, name: str = "headwater"
    ) -> None:
        self.home = home
        self.data = home / "data"
        self.passfile = home / "passfile"
        self.name = name
        self.account = account
        self.bindir = bindir
        self.log = log

    @property
    def exists(self) -> bool:
        """Whether initdb has been run."""
        return (self.home / "postgresql.conf").exists() or self.data.exists()

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, if it is alive."""
        lines = self._pid_lines()
        if not lines or not lines[0].isdigit():
            return None
        pid = int(lines[0])
        return pid if _works_in(pid, self.data) else None

    @property
    def running_port(self) -> int | None:
        """The port the running server listens on."""
        lines = self._pid_lines() if self.pid else []
        return int(lines[3]) if len(lines) > 3 else None

    def check_programs(self, preload: Sequence[str]) -> None:
        """Refuse to go on without the server's programs and libraries."""
        if not os.access(self.bindir / "postgres", os.X_OK):
            raise CommandError(
                f"PostgreSQL {MAJOR} is not in {self.bindir}: run `make setup`, "
                "or set HEADWATER_PG_BINDIR"
            )
        libraries = self.bindir.parent / "lib"
        for name in preload:
            if libraries.is_dir() and not (libraries / f"{name}.so").exists():
                remedy = (
                    "set HEADWATER_PG_BINDIR to a server that offers Citus, or leave out --workers"
                    if name == "citus"
                    else "run `make setup`"
                )
                raise CommandError(f"{name} is not in {libraries}: {remedy}")

    def create(self, password: str) -> None:
        """Run initdb; an interrupted one leaves nothing behind that counts."""
        free = shutil.disk_usage(self.home).free
        if free < NEEDED_FREE_BYTES:
            raise CommandError(f"only {free // MB} MB are free at {self.home}: free 1 GB or more")
        # A name of its own: the initdb of a caller that was killed may still be at work.
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.home))  # mode 0700
        if not self.account.is_me:
            os.chown(unfinished, self.account.uid, self.account.gid)
        done = self.account.run(
            self.bindir / "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=reject",  # until pg_hba.conf and the password are ours
            "--data-checksums",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
        )
        if done.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            lines = [line for line in done.stderr.splitlines() if line.startswith("initdb: ")]
            reason = lines[0] if lines else _last_line(done.stderr)
            raise CommandError(f"the database can't be created in {self.home}: {reason}")
        self._set_password(unfinished, SUPERUSER, password)
        unfinished.rename(self.data)

    def start(
        self, *, port: int, preload: Sequence[str], settings: dict[str, str], workers: int = 0
    ) -> None:
        """Start and wait until it takes connections; nothing to do if it does.

        It shares the machine with `workers` others, or with that many less one and a coordinator.
        Raises PortTakenError for the caller to choose another port, CommandError otherwise.
        """
        if self.pid is None:
            self._check_version()
            self._clear_remains()
            self._write_configuration(
                port=port, preload=preload, settings=settings, workers=workers
            )
            self._launch()
        elif not self._wait_ready(self.pid):
            raise CommandError(f"PostgreSQL is alive but not ready: see {self.log}")

    def stop(self, *, immediately: bool = False) -> bool:
        """Shut down; whether it was running. `immediately` skips the checkpoint."""
        pid = self.pid
        if pid is None:
            return False
        how = signal.SIGQUIT if immediately else signal.SIGINT
        processes.terminate(pid, how, seconds=STOP_SECONDS)
        self._clear_remains()
        return True

    def kill9(self) -> None:
        """The nearest thing to a power cut that leaves the machine up."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self._kill_backends()

    def write_passfile(self, logins: Iterable[tuple[int, str, str]]) -> None:
        """Let the server's own connections log in on loopback: (port, role, password) each.

        libpq reads it at each connection, and only where nobody else may read it.
        """
        text = "".join(
            f"{HOST}:{port}:*:{role}:{_escaped(password)}\n" for port, role, password in logins
        )
        temporary = self.passfile.with_name("passfile.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            if not self.account.is_me:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            file.write(text)
        temporary.replace(self.passfile)

    def set_password_offline(self, role: str, password: str) -> None:
        """Give a role a password while the server is down and no old one is known."""
        self._clear_remains()
        self._set_password(self.data, role, password)

    def _set_password(self, data: Path, role: str, password: str) -> None:
        statement = f"alter role {role} password '{password}'\n"
        done = self.account.run(
            self.bindir / "postgres",
            "--single",
            f"-D{data}",
            "-clog_statement=none",
            "postgres",
            text_input=statement,
        )
        if done.returncode != 0 or "ERROR" in done.stderr:
            raise CommandError(f"the password of {role} can't be set: {_last_line(done.stderr)}")

    def _launch(self) -> None:
        arguments = self.account.popen_arguments()
        arguments["env"]["PGPASSFILE"] = str(self.passfile)
        with processes.open_log(self.log) as output:
            begin = output.seek(0, os.SEEK_END)
            # Not -D: the configuration stays out of the server user's hands.
            pid = processes.launch(
                [self.bindir / "postgres", "-c", f"config_file={self.home}/postgresql.conf"],
                stdout=output,
                stderr=output,
                **arguments,
            )
        if self._wait_ready(pid):
            return
        text = _text_after(self.log, begin)
        if "could not bind" in text:
            raise PortTakenError
        fatal = [line for line in text.splitlines() if "FATAL:" in line or "PANIC:" in line]
        reason = fatal[-1].partition(":  ")[2] if fatal else _last_line(text)
        remedy = "free some disk space" if "No space left" in text else f"see {self.log}"
        raise CommandError(f"PostgreSQL didn't start ({reason}): {remedy}")

    def _wait_ready(self, pid: int) -> bool:
        def settled() -> bool:
            lines = self._pid_lines()
            ready = len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
            return ready or not processes.is_running(pid)

        return processes.wait_until(settled, seconds=START_SECONDS) and processes.is_running(pid)

    def _check_version(self) -> None:
        try:
            made_with = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise CommandError(
                f"{self.data} holds no database any more: `headwater dev reset` makes a new one"
            ) from None
        if made_with != MAJOR:
            raise CommandError(
                f"{self.data} was made by PostgreSQL {made_with}, not {MAJOR}: "
                "dump it with that version, then `headwater dev reset`"
            )

    def _write_configuration(
        self, *, port: int, preload: Sequence[str], settings: dict[str, str], workers: int
    ) -> None:
        place = {
            "data_directory": str(self.data.resolve()),
            "hba_file": str(self.home / "pg_hba.conf"),
            "ident_file": str(self.data.resolve() / "pg_ident.conf"),
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "cluster_name": self.name,
        }
        tuned = settings_for(this_machine(self.home), preload, workers=workers)
        _write(self.home / "postgresql.conf", render(place | tuned | settings))
        _write(self.home / "pg_hba.conf", f"host all,replication all {HOST}/32 scram-sha-256\n")

    def _clear_remains(self) -> None:
        """What a killed server left: backends that have not noticed yet, and its pid file."""
        self._kill_backends()
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for folder in self.home.glob(f"{UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _kill_backends(self) -> None:
        for pid in _all_in(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        processes.wait_until(lambda: not list(_all_in(self.data)), seconds=10)

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:  # gone, a zombie, or somebody else's
        return False


def _all_in(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _works_in(int(entry.name), folder):
            pid = int(entry.name)
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "postgres":
                    yield pid


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(path)


def _text_after(path: Path, begin: int) -> str:
    with path.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"
