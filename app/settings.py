"""Every setting, read once from the environment and passed in; nothing reads it twice.

A variable that is absent is looked up in `.headwater/env`, which the local runtime writes, so that
`headwater …` talks to it without further ado. libpq's own PG* variables fill what a URL leaves out.
A value that can't be read is refused at start-up with the variable's name.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from app.errors import CommandError
from app.paths import STATE

NotNegative = Annotated[float, msgspec.Meta(ge=0, lt=1e12)]
Burst = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One field per setting; the environment variable is the field's name in capitals."""

    database_url: str = ""
    """PostgreSQL for the API's reads and small writes, as headwater_app; empty: PG* variables."""
    database_read_url: str = ""
    """A streaming replica for the API's reads, as headwater_app; empty: DATABASE_URL."""
    database_read_max_lag_seconds: NotNegative = 10
    """How far the replica may be behind before reads go to DATABASE_URL, in seconds."""
    direct_database_url: str = ""
    """DATABASE_URL past a pooler in transaction mode, for LISTEN and the jobs; empty: DATABASE_URL."""
    ingest_database_url: str = ""
    """PostgreSQL for the readings' writers, as headwater_ingest; empty: DATABASE_URL."""
    owner_database_url: str = ""
    """PostgreSQL for `headwater migrate`; may create roles and extensions; empty: DATABASE_URL."""
    sql_database_url: str = ""
    """PostgreSQL for people's SQL, as headwater_sql; empty: POST /api/v1/sql answers 503."""
    redis_url: str = ""
    """Redis or Valkey; empty: run without it (token buckets then live in each process)."""
    headwater_host: str = "127.0.0.1"
    """Address that `headwater serve` listens on."""
    headwater_port: int = 8080
    """Port that `headwater serve` listens on."""
    headwater_url: str = ""
    """Base address that clients on this machine use; empty: from host and port."""
    ingest_writers: int = 2
    """Writer connections of each API process; more than the server's cores only costs."""
    ingest_road: Literal["direct", "coordinator"] = "direct"
    """On a distributed server: direct writes straight to the workers' shards, coordinator through it."""
    ingest_queue_readings: int = 200_000
    """Readings that may wait for a writer before the API answers 503 with Retry-After."""
    ingest_max_body_bytes: int = 16_777_216
    """Largest request body in bytes, before and after decompression."""
    ingest_max_readings: int = 50_000
    """Most readings in one request."""
    clock_future_seconds: int = 300
    """How far ahead of the server's clock a reading may be, in seconds."""
    clock_past_days: int = 7_305
    """How old a reading may be, in days; older means a clock that lost its time."""
    late_after_seconds: int = 3_600
    """A reading that arrives this many seconds after its own time is stored and said to be late."""
    pool_size: int = 4
    """Connections of each API process for reads and small writes."""
    statement_timeout_seconds: int = 30
    """Longest statement of the API's reads, in seconds."""
    sql_pool_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """Queries of people that each API process runs at once."""
    sql_timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=3_600)] = 30
    """Longest query of people's SQL, in seconds."""
    sql_max_cost: Annotated[float, msgspec.Meta(gt=0)] = 5_000_000
    """Highest cost that EXPLAIN may name for such a query; beyond it the query is refused."""
    sql_max_rows: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000
    """Most rows of an answer; the rest is cut off and said to be."""
    sql_max_bytes: Annotated[int, msgspec.Meta(ge=1_000)] = 33_554_432
    """Most bytes of an answer's values; the rest is cut off and said to be."""
    sql_memory_mb: Annotated[int, msgspec.Meta(ge=64, le=1_000_000)] = 256
    """Memory of DuckDB for such a query over archived readings, in MB; it may spill eight times that."""
    relay_host: str = "127.0.0.1"
    """Address that `headwater relay` listens on."""
    relay_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Port that `headwater relay` listens on; 0: there is none, and tenants log in on the database."""
    relay_certificate: str = ""
    """File with the certificate that the relay encrypts with, PEM; empty: it does not."""
    relay_key: str = ""
    """File with the certificate's private key; empty: it is in the same file."""
    rate_sensor_requests_per_second: NotNegative = 1.0
    """Requests a second that may bring readings of one sensor, with a key of role device; 0: no limit."""
    rate_sensor_burst: Burst = 60
    """Requests of one sensor that may come at once."""
    rate_sensor_catch_up_readings: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 100_000
    """Readings a day that one sensor may send in requests beyond that, after an outage; 0: none."""
    rate_device_readings_per_second: NotNegative = 10_000
    """Readings a second with one key of role device that has no limit of its own; 0: no limit."""
    rate_device_burst: Burst = 1_000_000
    """Readings that may come at once with such a key."""
    rate_key_readings_per_second: NotNegative = 2_000_000
    """Readings a second with one key of another role that has no limit of its own; 0: no limit."""
    rate_key_burst: Burst = 20_000_000
    """Readings that may come at once with such a key."""
    rate_tenant_readings_per_second: NotNegative = 2_000_000
    """Readings a second of one tenant that has no limit of its own; 0: no limit."""
    rate_tenant_burst: Burst = 20_000_000
    """Readings of one tenant that may come at once."""
    rate_redis_timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    """Milliseconds after which Redis counts as gone and each process keeps its own buckets."""
    rate_in_process_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25
    """Part of the limits that each process gives away while a configured Redis is gone."""
    archive_url: str = ""
    """Where cold readings go: file:/a/folder or s3://bucket/prefix; empty: by hand, to .headwater."""
    archive_after_days: int = 30
    """Age in days from which a day's readings move to the archive; at least 4."""
    archive_memory_mb: int = 256
    """Memory that DuckDB may use for the archive, in MB; beyond it spills to the disk."""
    archive_s3_endpoint: str = ""
    """Address of the S3 store, as in http://host:9000; empty: AWS."""
    archive_s3_key: str = ""
    """Access key of the S3 store."""
    archive_s3_secret: str = ""
    """Secret key of the S3 store."""
    archive_s3_region: str = ""
    """Region of the S3 store; empty: us-east-1."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment, then `.headwater/env` for what is absent.

        Raises CommandError that names the variable whose value can't be read.
        """
        source = {**local_environment(), **(os.environ if environ is None else environ)}
        values: dict[str, object] = {}
        for field in msgspec.structs.fields(cls):
            text = source.get(field.name.upper())
            if text is None:
                continue
            try:
                values[field.name] = msgspec.convert(text, field.type, strict=False)
            except msgspec.ValidationError as exc:
                raise CommandError(f"{field.name.upper()}={text!r}: {exc}") from None
        settings = cls(**values)  # type: ignore[arg-type]
        return msgspec.structs.replace(
            settings,
            direct_database_url=settings.direct_database_url or settings.database_url,
            ingest_database_url=settings.ingest_database_url or settings.database_url,
            owner_database_url=settings.owner_database_url or settings.database_url,
            headwater_url=settings.headwater_url
            or f"http://{settings.headwater_host}:{settings.headwater_port}",
        )


def local_environment(path: Path = STATE / "env") -> dict[str, str]:
    """KEY=VALUE lines of the local runtime; empty where it was never started."""
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs if not key.startswith("#")}
