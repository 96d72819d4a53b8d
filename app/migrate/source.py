"""The files under migrations/ and sql/, read and checked before the database is asked anything.

A file opens with comment lines; those of the form `-- key: value` with a known key are its header
(migrations/README.md lists them). A key or value that can't be right is refused, so that a slip of
the pen never silently changes how a file is applied. Checksums are SHA-256 over the text with line
ends made uniform.
"""

import difflib
import fnmatch
import graphlib
import heapq
import re
from hashlib import sha256
from pathlib import Path

import msgspec

from app.errors import CommandError
from app.migrate.statements import Statement, split

EDITIONS = ("apache", "community", "citus")
PLACES = ("coordinator", "placements", "nodes", "shards")
NUMBERED = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_HEADER = re.compile(r"--\s?([A-Za-z][A-Za-z_-]*):\s*(.*?)\s*")
_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}
_TIME = re.compile(r"(\d+)\s*(ms|s|min|h)")
_KEYS = {
    "migrations": ("transaction", "role", "lock-timeout", "statement-timeout", "edition"),
    "sql": (
        *("transaction", "role", "lock-timeout", "statement-timeout"),
        *("requires", "apply", "version", "where"),
    ),
}
_TRANSACTION_CONTROL = {"begin", "start", "commit", "end", "rollback", "abort", "savepoint"}


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One SQL file as it lies on disk."""

    name: str
    """Path with its top folder, as people type it: migrations/0001_roles.sql."""
    text: str
    checksum: str
    number: int | None = None
    """Position of a migration; None under sql/."""
    edition: str = "any"
    version: int = 1
    once: bool = False
    """Applied once per version and never again; a migration always is."""
    transactional: bool = True
    superuser: bool = False
    """Run as the role that connected instead of the owner role."""
    requires: tuple[str, ...] = ()
    where: frozenset[str] = frozenset({"coordinator"})
    """Places on a distributed server (app/migrate/places.py); one server is all of them."""
    lock_timeout_ms: int | None = None
    statement_timeout_ms: int | None = None

    def statements(self) -> list[Statement]:
        """The file's statements in order."""
        return split(self.text)


def checksum(text: str) -> str:
    """SHA-256 in hexadecimal."""
    return sha256(text.encode()).hexdigest()


def read_migrations(folder: Path) -> list[File]:
    """Every migration in order of its number; raises CommandError on names or headers."""
    files: dict[int, File] = {}
    for path in sorted(folder.glob("[!.]*.sql")):
        name = f"migrations/{path.name}"
        match = NUMBERED.fullmatch(path.name)
        if match is None:
            raise CommandError(f"{name}: a migration is called NNNN_what.sql, lower case")
        number = int(match[1])
        if number in files:
            raise CommandError(
                f"{name}: number {match[1]} is taken by {files[number].name}; "
                "give the one that was not released the next free number"
            )
        files[number] = _read(path, name, "migrations", number=number, once=True)
    return [files[number] for number in sorted(files)]


def read_sql(folder: Path) -> list[File]:
    """Everything re-creatable, what a file requires before the file; raises CommandError."""
    files = []
    for path in sorted(folder.rglob("[!.]*.sql")):
        parts = path.relative_to(folder).parts
        name = "/".join(("sql", *parts))
        if parts[0] == "queries":
            continue
        edition = "any"
        if parts[0] == "edition":
            edition = parts[1] if len(parts) > 2 else ""
            if edition not in EDITIONS:
                raise CommandError(
                    f"{name}: an edition file lies in sql/edition/{{{','.join(EDITIONS)}}}/"
                )
        files.append(_read(path, name, "sql", edition=edition))
    return _in_order(files)


def dependents(files: list[File], changed: set[str]) -> set[str]:
    """The changed files and all that require one of them, at any distance."""
    reached = set(changed)
    for file in files:  # in order: what a file requires comes before it
        if reached & set(file.requires):
            reached.add(file.name)
    return reached


def _read(
    path: Path,
    name: str,
    room: str,
    *,
    number: int | None = None,
    edition: str = "any",
    once: bool = False,
) -> File:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"{name}: can't be read: {exc}") from None
    header = _header(text, name, _KEYS[room])
    once = once or _one_of(header, "apply", "once", name)
    if _one_of(header, "edition", "citus", name):
        edition = "citus"
    if once and room == "sql" and "version" not in header:
        raise CommandError(f"{name}: '-- apply: once' needs '-- version: 1' beside it")
    if "version" in header and not once:
        raise CommandError(f"{name}: '-- version:' has no meaning without '-- apply: once'")
    file = File(
        name=name,
        text=text,
        checksum=checksum(text),
        number=number,
        edition=edition,
        version=_version(header.get("version", ["1"])[-1], name),
        once=once,
        transactional=not _one_of(header, "transaction", "none", name),
        superuser=_one_of(header, "role", "superuser", name),
        requires=tuple(
            "sql/" + one.strip().removeprefix("sql/")
            for line in header.get("requires", [])
            for one in line.split(",")
        ),
        # what readings need besides their table is made once, where they lie
        where=_where(
            header, name, "shards" if once and edition in ("apache", "community") else "coordinator"
        ),
        lock_timeout_ms=_milliseconds(header, "lock-timeout", name),
        statement_timeout_ms=_milliseconds(header, "statement-timeout", name),
    )
    if not file.transactional and not once:
        raise CommandError(
            f"{name}: re-creatable files are applied in one transaction; "
            "'-- transaction: none' needs '-- apply: once'"
        )
    if file.transactional:
        for statement in file.statements():
            if set(statement.words[:1]) & _TRANSACTION_CONTROL:
                raise CommandError(
                    f"{name}:{statement.line}: no {statement.words[0]} here, every file runs in "
                    "a transaction of the migrator; '-- transaction: none' turns that off"
                )
    return file


def _header(text: str, name: str, known: tuple[str, ...]) -> dict[str, list[str]]:
    header: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("--"):
            break
        match = _HEADER.fullmatch(line)
        if match is None:
            continue
        key, value = match[1], match[2]
        if key in known:
            header.setdefault(key, []).append(value)
            continue
        every = {one for keys in _KEYS.values() for one in keys}
        near = difflib.get_close_matches(key.lower().replace("_", "-"), every, 1, 0.8)
        if near:
            meant = "is for files under sql/" if near[0] not in known else f"means '{near[0]}'?"
            raise CommandError(f"{name}:{number}: header '-- {key}:' {meant}")
    return header


def _one_of(header: dict[str, list[str]], key: str, only: str, name: str) -> bool:
    values = header.get(key, [])
    for value in values:
        if value != only:
            raise CommandError(f"{name}: '-- {key}: {value}' is not '-- {key}: {only}'")
    return bool(values)


def _where(header: dict[str, list[str]], name: str, usual: str) -> frozenset[str]:
    places = [one.strip() for line in header.get("where", []) for one in line.split(",")]
    for place in places:
        if place not in PLACES:
            raise CommandError(f"{name}: '-- where: {place}' is none of {', '.join(PLACES)}")
    return frozenset(places or [usual])


def _version(text: str, name: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise CommandError(f"{name}: '-- version: {text}' is not a whole number from 1")
    return int(text)


def _milliseconds(header: dict[str, list[str]], key: str, name: str) -> int | None:
    if key not in header:
        return None
    text = header[key][-1]
    match = _TIME.fullmatch(text)
    if match is None:
        raise CommandError(f"{name}: '-- {key}: {text}' is not a time like 500ms, 5s, 10min, 2h")
    return int(match[1]) * _MILLISECONDS[match[2]]


def _in_order(files: list[File]) -> list[File]:
    """Required files first, otherwise by path; globs in `requires` are spelled out."""
    by_name = {file.name: file for file in files}
    graph: dict[str, tuple[str, ...]] = {}
    for file in files:
        names: list[str] = []
        for wanted in file.requires:
            hits = [name for name in fnmatch.filter(by_name, wanted) if name != file.name]
            if not hits:
                raise CommandError(f"{file.name}: requires {wanted}, which is not there")
            names += hits
        graph[file.name] = tuple(dict.fromkeys(names))
        for name in graph[file.name]:
            if not by_name[name].transactional and file.transactional:
                raise CommandError(
                    f"{file.name}: requires {name}, which runs after the common transaction"
                )
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as exc:
        raise CommandError(f"sql/: files require each other: {' <- '.join(exc.args[1])}") from None
    ready: list[str] = []
    order: list[File] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, name)
        name = heapq.heappop(ready)
        sorter.done(name)
        order.append(msgspec.structs.replace(by_name[name], requires=graph[name]))
    return order
