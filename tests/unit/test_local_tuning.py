"""The local cluster's settings follow the machine and never trade durability for speed."""

import pytest

from app.local.tuning import GB, MB, Machine, render, settings_for


def machine(*, memory: int = 16 * GB, cores: int = 4, disk: int = 500 * GB) -> Machine:
    return Machine(memory_bytes=memory, cores=cores, free_disk_bytes=disk)


@pytest.mark.parametrize(
    ("memory", "expected"), [(256 * MB, "64MB"), (8 * GB, "1024MB"), (64 * GB, "2048MB")]
)
def test_shared_buffers_are_an_eighth_of_memory_up_to_2_gb(memory: int, expected: str) -> None:
    assert settings_for(machine(memory=memory), [])["shared_buffers"] == expected


@pytest.mark.parametrize(
    ("disk", "expected"), [(GB, "256MB"), (80 * GB, "10240MB"), (999 * GB, "16384MB")]
)
def test_wal_is_large_only_where_the_disk_is(disk: int, expected: str) -> None:
    assert settings_for(machine(disk=disk), [])["max_wal_size"] == expected


@pytest.mark.parametrize(
    ("memory", "expected"), [(GB, "256"), (16 * GB, "1024"), (256 * GB, "2048")]
)
def test_there_are_locks_for_years_of_chunks(memory: int, expected: str) -> None:
    name = "max_locks_per_transaction"
    assert settings_for(machine(memory=memory), [])[name] == expected
    assert int(settings_for(machine(memory=memory), [], workers=2)[name]) >= 256


def test_nothing_acknowledged_can_be_lost() -> None:
    settings = settings_for(machine(), ["timescaledb"])
    assert settings["synchronous_commit"] == "on"
    assert not {"fsync", "full_page_writes"} & settings.keys()


def test_no_parallel_query_where_citus_and_timescaledb_clash() -> None:
    both = settings_for(machine(), ["citus", "timescaledb"])
    assert both["shared_preload_libraries"] == "citus,timescaledb"
    assert both["max_parallel_workers_per_gather"] == "0"
    assert settings_for(machine(), ["timescaledb"])["max_parallel_workers_per_gather"] == "2"


def test_telemetry_stays_off() -> None:
    assert settings_for(machine(), ["timescaledb"])["timescaledb.telemetry_level"] == "off"
    assert "timescaledb.telemetry_level" not in settings_for(machine(), [])


def test_tiny_dev_shm_is_not_used() -> None:
    container = Machine(memory_bytes=GB, cores=1, free_disk_bytes=GB, shared_memory_bytes=64 * MB)
    assert settings_for(container, [])["dynamic_shared_memory_type"] == "sysv"


def test_values_are_quoted() -> None:
    assert "data_directory = '/o''brien\\\\x'\n" in render({"data_directory": "/o'brien\\x"})
