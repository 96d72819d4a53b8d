"""What a PostgreSQL server offers, what Headwater misses there, and what is dangerous.

`read_offer` asks the server, everything else is pure. Nothing here is configured by hand: the
edition is what the server says it is, in the database one is connected to.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

Edition = Literal["apache", "community", "none"]
Level = Literal["danger", "warning", "note"]
Status = Literal["yes", "substitute", "no", "unknown"]

FLOOR = (2, 18, 1)  # earlier: rows lost, wrong values in statement triggers
RECOMMENDED = (2, 26, 4)
CLASHING = (2, 22)  # from here on its custom scan has the name of Citus columnar's
LOCKS = 256
"""Which max_locks_per_transaction a database of chunks needs at least."""
EXTENSIONS = ("timescaledb", "timescaledb_toolkit", "citus", "postgis")
SETTINGS = (
    "data_checksums",
    "fsync",
    "full_page_writes",
    "max_connections",
    "max_locks_per_transaction",
    "max_parallel_workers_per_gather",
    "max_prepared_transactions",
    "shared_preload_libraries",
    "synchronous_commit",
    "timescaledb.license",
)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A server and one of its databases. `*_version` is installed here, `*_available` could be."""

    server_version: str
    edition: Edition
    """Of TimescaleDB in this database; `none` until the extension is created."""
    timescaledb_version: str | None = None
    timescaledb_available: str | None = None
    toolkit_version: str | None = None
    toolkit_available: str | None = None
    citus_version: str | None = None
    citus_available: str | None = None
    postgis_version: str | None = None
    postgis_available: str | None = None
    preload: tuple[str, ...] | None = None
    """shared_preload_libraries; None where the role may not see it."""
    settings: dict[str, str] = {}

    @property
    def is_distributed(self) -> bool:
        """Whether this database can have Citus tables."""
        return self.citus_version is not None


class Finding(msgspec.Struct, frozen=True):
    """Something about the server that a person should know."""

    level: Level
    subject: str
    detail: str
    remedy: str


class Feature(msgspec.Struct, frozen=True):
    """What Headwater can do here, and what it would need to do better."""

    feature: str
    needs: str
    status: Status
    detail: str


async def read_offer(connection: AsyncConnection[Any]) -> Offer:
    """Ask the server; any role may, a superuser sees the most."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "select name, default_version, installed_version"
            " from pg_catalog.pg_available_extensions where name = any(%s)",
            [list(EXTENSIONS)],
        )
        extensions = {name: (default, here) for name, default, here in await cursor.fetchall()}
        await cursor.execute(
            "select name, setting from pg_catalog.pg_settings where name = any(%s)",
            [list(SETTINGS)],
        )
        settings: dict[str, str] = dict(await cursor.fetchall())
        await cursor.execute("select pg_catalog.current_setting('server_version')")
        row = await cursor.fetchone()
    assert row is not None
    return make_offer(server_version=row[0], extensions=extensions, settings=settings)


def make_offer(
    *,
    server_version: str,
    extensions: Mapping[str, tuple[str | None, str | None]],
    settings: Mapping[str, str],
) -> Offer:
    """From what the catalogue says: extension -> (default version, installed version)."""
    offered = {name: extensions.get(name, (None, None)) for name in EXTENSIONS}
    preload = settings.get("shared_preload_libraries")
    return Offer(
        server_version=server_version.split(maxsplit=1)[0],
        edition=_edition(offered["timescaledb"][1], settings.get("timescaledb.license")),
        timescaledb_available=offered["timescaledb"][0],
        timescaledb_version=offered["timescaledb"][1],
        toolkit_available=offered["timescaledb_toolkit"][0],
        toolkit_version=offered["timescaledb_toolkit"][1],
        citus_available=offered["citus"][0],
        citus_version=offered["citus"][1],
        postgis_available=offered["postgis"][0],
        postgis_version=offered["postgis"][1],
        preload=None if preload is None else tuple(re.findall(r"[^\s,\"]+", preload)),
        settings={name: settings[name] for name in SETTINGS if name in settings},
    )


def findings(offer: Offer) -> list[Finding]:
    """Everything worth saying, the dangerous first."""
    return by_level([*_timescaledb(offer), *_citus(offer), *_locks(offer), *_durability(offer)])


def by_level(found: list[Finding]) -> list[Finding]:
    """The dangerous first."""
    return sorted(found, key=lambda finding: ("danger", "warning", "note").index(finding.level))


def is_dangerous(found: list[Finding]) -> bool:
    """Whether the server should not be used as it is."""
    return any(finding.level == "danger" for finding in found)


def features(offer: Offer) -> list[Feature]:
    """What each feature needs and whether it is there."""
    community = "TimescaleDB Community"
    is_community = offer.edition == "community"
    is_created = offer.timescaledb_version is not None
    unknown: Status = "no" if offer.timescaledb_available is None else "unknown"

    def by_edition(feature: str, otherwise: Status, detail: str) -> Feature:
        status: Status = "yes" if is_community else otherwise if is_created else unknown
        return Feature(feature, community, status, detail)

    def by_version(feature: str, needs: str, version: str | None, detail: str) -> Feature:
        return Feature(feature, needs, "yes" if version else "substitute", detail)

    return [
        Feature(
            "readings in time chunks",
            "TimescaleDB",
            "yes" if is_created else unknown,
            "nothing works without it",
        ),
        by_edition("rollups", "substitute", "plain tables, refreshed by a job"),
        by_edition("columnstore compression", "no", "readings take many times the disk"),
        by_edition("retention and refresh", "substitute", "run by `headwater jobs`"),
        by_version(
            "statistical aggregates", "TimescaleDB Toolkit", offer.toolkit_version, "plain SQL"
        ),
        by_version(
            "geometry queries", "PostGIS", offer.postgis_version, "points and bounding boxes only"
        ),
        Feature(
            "sharding over servers",
            "Citus",
            "yes" if offer.is_distributed else "no",
            "one server holds everything",
        ),
    ]


def _timescaledb(offer: Offer) -> list[Finding]:
    subject = "timescaledb"
    if offer.timescaledb_available is None:
        remedy = "Debian: `make setup`; elsewhere: the vendor's package"
        return [Finding("danger", subject, "not on this server", remedy)]
    if offer.preload is not None and subject not in offer.preload:
        remedy = "add timescaledb to shared_preload_libraries and restart"
        return [Finding("danger", subject, "not preloaded", remedy)]
    if offer.timescaledb_version is None:
        detail = f"{offer.timescaledb_available} is there, but not created in this database"
        return [Finding("note", subject, detail, "headwater migrate")]
    found = []
    here = version_tuple(offer.timescaledb_version)
    if here < FLOOR:
        detail = f"{offer.timescaledb_version} can lose rows of a COPY or hand wrong values on"
        found.append(Finding("danger", subject, detail, f"upgrade to {_dotted(FLOOR)} or later"))
    elif here < RECOMMENDED:
        detail = f"{offer.timescaledb_version} has known faults that are fixed since"
        remedy = f"production: {_dotted(RECOMMENDED)} or later"
        found.append(Finding("warning", subject, detail, remedy))
    if here < version_tuple(offer.timescaledb_available):
        detail = f"{offer.timescaledb_available} is there, {offer.timescaledb_version} is in use"
        remedy = "in a new session, first statement: alter extension timescaledb update"
        found.append(Finding("note", subject, detail, remedy))
    return found


def _citus(offer: Offer) -> list[Finding]:
    both = {"citus", "timescaledb"}
    if offer.preload is None:  # each of them works only preloaded
        are_loaded = bool(offer.citus_version and offer.timescaledb_version)
    else:
        are_loaded = both <= set(offer.preload)
    if not are_loaded:
        return _two_phase(offer)
    found = []
    if offer.preload is not None and offer.preload.index("citus") != 0:
        remedy = "shared_preload_libraries = 'citus,timescaledb', and restart"
        found.append(Finding("danger", "citus", "must be preloaded first", remedy))
    version = offer.timescaledb_version or offer.timescaledb_available
    clashes = version is not None and version_tuple(version) >= CLASHING
    if clashes and offer.settings.get("max_parallel_workers_per_gather") != "0":
        found.append(
            Finding(
                "danger",
                "parallel query",
                "Citus and TimescaleDB >= 2.22 both name a scan ColumnarScan: a parallel worker"
                " that reads a compressed chunk crashes the server",
                "on every node: alter system set max_parallel_workers_per_gather = 0;"
                " select pg_reload_conf()",
            )
        )
    return [*found, *_two_phase(offer)]


def _two_phase(offer: Offer) -> list[Finding]:
    """A write to several shards is prepared on each of them before it is committed."""
    name = "max_prepared_transactions"
    prepared = int(offer.settings.get(name, 1))
    connections = int(offer.settings.get("max_connections", 0))
    if not offer.is_distributed or prepared >= connections > 0:
        return []
    level: Level = "warning" if prepared else "danger"
    detail = f"{prepared}: a write to several shards " + ("may fail" if prepared else "fails")
    remedy = f"on every node: alter system set {name} = {2 * connections}; restart"
    return [Finding(level, name, detail, remedy)] if connections else []


def _locks(offer: Offer) -> list[Finding]:
    """A question over a long history locks each of its chunks; the table of locks is everybody's."""
    name = "max_locks_per_transaction"
    if int(offer.settings.get(name, LOCKS)) >= LOCKS:
        return []
    detail = f"{offer.settings[name]}: questions over years of chunks can leave writers no locks"
    return [Finding("warning", name, detail, f"alter system set {name} = {LOCKS}; restart")]


def _durability(offer: Offer) -> list[Finding]:
    harm = {
        "fsync": "a power cut can destroy the whole database",
        "full_page_writes": "a power cut can tear pages beyond repair",
        "synchronous_commit": "readings that were acknowledged can be lost in a crash",
    }
    found = [
        Finding("danger", name, f"off: {text}", f"alter system set {name} = on; reload")
        for name, text in harm.items()
        if offer.settings.get(name) == "off"
    ]
    if offer.settings.get("data_checksums") == "off":
        detail = "off: silent disk corruption goes unnoticed"
        found.append(Finding("note", "data checksums", detail, "pg_checksums --enable, when down"))
    return found


def version_tuple(version: str) -> tuple[int, ...]:
    """2.19.3-dev -> (2, 19, 3)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)


def _edition(installed: str | None, license_name: str | None) -> Edition:
    if installed is None:
        return "none"
    return "community" if license_name == "timescale" else "apache"
