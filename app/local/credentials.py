"""Ports and passwords of the local runtime: chosen once, kept in `.headwater/env` (mode 0600).

The file is written before anything is created with its contents, whole or not at all. Lines that
somebody added by hand are kept. Where a password is new (the file was deleted), the servers are
told.
"""

import contextlib
import os
import random
import re
import secrets
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from app.errors import CommandError
from app.local.account import hand_over

HOST = "127.0.0.1"
DATABASE = "headwater"
SUPERUSER = "postgres"
OWNER = "headwater_owner"
# variable of .headwater/env -> the role its URL logs in as
DATABASE_VARIABLES = {
    "DATABASE_URL": "headwater_app",
    "INGEST_DATABASE_URL": "headwater_ingest",
    "OWNER_DATABASE_URL": SUPERUSER,
    "OBJECT_OWNER_DATABASE_URL": OWNER,
    "ANALYST_DATABASE_URL": "headwater_analyst",
    "SQL_DATABASE_URL": "headwater_sql",
    "GRAFANA_DATABASE_URL": "headwater_grafana",
}
POSTGRES = "postgres"  # the only node, or the coordinator
REDIS = "redis"
RELAY = "relay"
RELAY_VARIABLE = "RELAY_PORT"
WORKER = "worker-"  # and a number
ROLES = tuple(DATABASE_VARIABLES.values())
BINDIR_VARIABLE = "HEADWATER_PG_BINDIR"
WORKERS_VARIABLE = "HEADWATER_WORKERS"
HEADER = "# Written by `headwater dev up`; `headwater` reads it where the environment is silent."


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a client must know to reach the local servers."""

    ports: dict[str, int]
    """By server: postgres, redis, relay, worker-1 …"""
    passwords: dict[str, str]
    """By database role; the same on every node."""
    redis_password: str
    bindir: str
    """Server programs that the cluster was made with."""

    @property
    def postgres_port(self) -> int:
        """Of the only node, or of the coordinator."""
        return self.ports[POSTGRES]

    @property
    def redis_port(self) -> int:
        """Of Redis."""
        return self.ports[REDIS]

    @property
    def relay_port(self) -> int:
        """Of the relay."""
        return self.ports[RELAY]

    @property
    def workers(self) -> list[str]:
        """Names of the worker nodes, in the order in which they were added."""
        names = (name for name in self.ports if name.startswith(WORKER))
        return sorted(names, key=worker_number)

    def database_url(self, role: str, database: str = DATABASE, node: str = POSTGRES) -> str:
        """libpq URL of a role."""
        return f"postgresql://{role}:{self.passwords[role]}@{HOST}:{self.ports[node]}/{database}"

    @property
    def redis_url(self) -> str:
        """URL of database 0."""
        return f"redis://:{self.redis_password}@{HOST}:{self.redis_port}/0"

    def environment(self) -> dict[str, str]:
        """The settings by their environment variables."""
        urls = {name: self.database_url(role) for name, role in DATABASE_VARIABLES.items()}
        kept = urls | {
            "REDIS_URL": self.redis_url,
            RELAY_VARIABLE: str(self.relay_port),
            BINDIR_VARIABLE: self.bindir,
        }
        if self.workers:
            kept[WORKERS_VARIABLE] = ",".join(f"{name}:{self.ports[name]}" for name in self.workers)
        return kept


def load(
    path: Path, *, bindir: str, workers: Iterable[str] = ()
) -> tuple[Credentials, frozenset[str]]:
    """Read the file, invent what it lacks; also whose password was invented.

    `workers` shall be there, beside those that the file names.
    """
    values = read(path)
    passwords: dict[str, str] = {}
    fresh: set[str] = set()
    ports = dict.fromkeys([POSTGRES, REDIS, *workers], 0) | _worker_ports(values)
    ports[RELAY] = _port(values.get(RELAY_VARIABLE, ""))
    for variable, role in DATABASE_VARIABLES.items():
        _, password, port = _parts(values.get(variable, ""))
        if not password:
            password = secrets.token_urlsafe(24)
            fresh.add(role)
        passwords[role] = password
        ports[POSTGRES] = ports[POSTGRES] or port
    _, redis_password, ports[REDIS] = _parts(values.get("REDIS_URL", ""))
    if not redis_password:
        fresh.add(REDIS)
    for name in ports:
        ports[name] = ports[name] or free_port(avoid=ports.values())
    return Credentials(
        ports=ports,
        passwords=passwords,
        redis_password=redis_password or secrets.token_urlsafe(24),
        bindir=values.get(BINDIR_VARIABLE) or bindir,
    ), frozenset(fresh)


def with_port(now: Credentials, name: str, port: int) -> Credentials:
    """The same with another port of one server."""
    return msgspec.structs.replace(now, ports=now.ports | {name: port})


def without_worker(now: Credentials, name: str) -> Credentials:
    """The same less one worker."""
    ports = {other: port for other, port in now.ports.items() if other != name}
    return msgspec.structs.replace(now, ports=ports)


def worker_number(name: str) -> int:
    """12 of `worker-12`."""
    return int(name.removeprefix(WORKER))


def recorded_workers(path: Path) -> list[str]:
    """Names of the workers that the file knows."""
    return list(_worker_ports(read(path)))


def save(path: Path, credentials: Credentials) -> None:
    """Write the file unless it says the same already."""
    ours = credentials.environment()
    known = {*ours, WORKERS_VARIABLE}
    foreign = {name: value for name, value in read(path).items() if name not in known}
    lines = [HEADER, *(f"{name}={value}" for name, value in (ours | foreign).items()), ""]
    text = "\n".join(lines)
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return
    temporary = path.with_name(f".env.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        hand_over(file.fileno(), path.parent)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read(path: Path) -> dict[str, str]:
    """KEY=VALUE lines; empty where there is no file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise CommandError(
            f"{path} belongs to another user: run this as that user or with sudo"
        ) from None
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs if not key.startswith("#")}


def free_port(*, avoid: Collection[int] = ()) -> int:
    """A loopback port nobody listens on, below the range that outgoing connections are given."""
    for _ in range(200):
        port = random.randint(20_000, 32_000)  # noqa: S311 - not a secret
        if port not in avoid and is_free(port):
            return port
    raise CommandError("no free loopback port between 20000 and 32000: stop something there")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _parts(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        return parts.username or "", parts.password or "", parts.port or 0
    except ValueError:
        return "", "", 0


def _port(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,5}", text) and int(text) < 65_536 else 0


def _worker_ports(values: dict[str, str]) -> dict[str, int]:
    text = values.get(WORKERS_VARIABLE, "")
    found = re.findall(rf"({WORKER}[1-9]\d{{0,3}}):(\d{{1,5}})(?:,|$)", text)
    ports = {name: int(port) for name, port in found}
    if text != ",".join(f"{name}:{port}" for name, port in ports.items()):
        raise CommandError(
            f"{WORKERS_VARIABLE}={text!r}: expected {WORKER}1:PORT,{WORKER}2:PORT in .headwater/env"
        )
    return ports
