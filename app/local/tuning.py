"""PostgreSQL's settings for the local runtime, from the machine's memory, cores and free disk.

Durability is never traded for speed: a reading that was acknowledged is on disk.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from app.local.credentials import HOST

MB = 2**20
GB = 2**30


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the servers may use."""

    memory_bytes: int
    cores: int
    free_disk_bytes: int
    shared_memory_bytes: int = 64 * GB
    """Size of /dev/shm, which is tiny in many containers."""


def this_machine(path: Path) -> Machine:
    """Measure; a container's own memory limit counts, and disk is that of `path`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path(limit).read_text()))
    try:
        shared_memory = shutil.disk_usage("/dev/shm").total  # noqa: S108 - only its size
    except OSError:
        shared_memory = 0
    return Machine(
        memory_bytes=memory,
        cores=len(os.sched_getaffinity(0)),
        free_disk_bytes=shutil.disk_usage(path).free,
        shared_memory_bytes=shared_memory,
    )


def settings_for(machine: Machine, preload: Sequence[str], *, workers: int = 0) -> dict[str, str]:
    """Every setting that differs from PostgreSQL's default.

    Of a node that shares the machine with a coordinator and its `workers`; 0: it has it alone.
    """
    nodes = 1 + workers
    memory, cores = machine.memory_bytes // nodes, machine.cores
    max_wal = _between(256 * MB, machine.free_disk_bytes // 8 // nodes, 16 * GB)
    settings = {
        "shared_preload_libraries": ",".join(preload),
        "shared_buffers": _mb(_between(64 * MB, memory // 8, 2 * GB)),
        "effective_cache_size": _mb(memory * 5 // 8),
        "maintenance_work_mem": _mb(_between(64 * MB, memory // 16, GB)),
        "work_mem": _mb(_between(8 * MB, memory // 512, 64 * MB)),
        "max_connections": "100",
        # A question without a time locks every chunk, four locks where it is compressed. The table is
        # everybody's: where it is full, writers fail as well. 0.4 kB each, taken when first used.
        "max_locks_per_transaction": str(_between(256, memory // (16 * MB), 2048)),
        # TimescaleDB takes 16 for its jobs and one a database; parallel queries need theirs too.
        "max_worker_processes": str(24 + cores),
        "max_parallel_workers": str(cores),
        "max_parallel_workers_per_gather": str(min(2, max(1, cores // 2))),
        "synchronous_commit": "on",
        "wal_compression": "lz4",
        "max_wal_size": _mb(max_wal),
        "min_wal_size": _mb(_between(80 * MB, max_wal // 8, GB)),
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "100",
        "jit": "off",  # compiling costs more than these queries take
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_min_duration_statement": "2s",
        "log_lock_waits": "on",
    }
    if machine.shared_memory_bytes < 256 * MB:
        settings["dynamic_shared_memory_type"] = "sysv"
    if "timescaledb" in preload:
        settings["timescaledb.telemetry_level"] = "off"
    if "citus" in preload:
        settings["citus.enable_statistics_collection"] = "off"
    if {"citus", "timescaledb"} <= set(preload):
        # Both name a custom scan ColumnarScan; a parallel worker picks the wrong one and crashes.
        settings["max_parallel_workers_per_gather"] = "0"
    if workers:
        settings |= _of_a_node(workers, cores)
    return settings


def _of_a_node(workers: int, cores: int) -> dict[str, str]:
    connections, jobs = 200, 32
    return {
        "max_connections": str(connections),
        # A write to several shards is prepared on each; every backend may be at it, twice.
        "max_prepared_transactions": str(2 * connections),
        # Each shard has its own policies. Beside the jobs: a scheduler and a Citus daemon a database.
        "timescaledb.max_background_workers": str(jobs),
        "max_worker_processes": str(jobs + 16 + cores),
        # Every group that a batch touches costs a COPY; two let the number of workers double.
        "citus.shard_count": str(2 * workers),
        "citus.local_hostname": HOST,
        "citus.node_conninfo": "sslmode=disable",  # loopback only
        "citus.node_connection_timeout": "5s",  # a dead worker fails quickly
        "citus.recover_2pc_interval": "10s",  # what a death left prepared keeps others waiting
        "citus.max_cached_conns_per_worker": "4",  # a connection for each shard of a worker
        "citus.propagate_set_commands": "local",  # row-level security reads such settings
        "citus.override_table_visibility": "off",  # shards are worked on by name
    }


def render(settings: dict[str, str]) -> str:
    """The text of postgresql.conf."""
    lines = [f"{name} = '{_quoted(value)}'" for name, value in settings.items()]
    return "# Written by `headwater dev up`; your own changes: ALTER SYSTEM.\n" + "\n".join(
        [*lines, ""]
    )


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _mb(size: int) -> str:
    return f"{size // MB}MB"
