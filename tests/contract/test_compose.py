"""docker-compose.yml is accepted by Docker, and says what the program understands."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from app.cli import COMMANDS
from app.local.credentials import ROLES, SUPERUSER
from app.local.doctor import LOCKS
from app.local.tuning import GB, Machine, settings_for
from app.paths import ROOT
from app.settings import Settings

COMPOSE = ROOT / "docker-compose.yml"
COMMON = {"redis", "migrate", "api", "relay", "jobs"}
PROFILES = {
    "single": COMMON | {"database"},
    "distributed": COMMON | {"coordinator", "worker-1", "worker-2", "register"},
}
SETTINGS = {field.name.upper() for field in msgspec.structs.fields(Settings)}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    return None


def compose(*words: str | Path) -> str:
    command = compose_command()
    if command is None:
        pytest.skip("docker compose is not on this machine; the other tests parse the file")
    environment = {k: v for k, v in os.environ.items() if k != "COMPOSE_PROFILES"}
    done = subprocess.run(
        [*command, "-f", COMPOSE, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_docker_accepts_each_profile(profile: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.env"
    empty.touch()
    for env in (empty, ROOT / "deploy/env.example"):
        words = ("--env-file", env, "--profile", profile, "config", "--format", "json")
        found = json.loads(compose(*words))["services"]
        assert PROFILES[profile] <= found.keys()
        if env is empty:
            assert found.keys() == PROFILES[profile]


def test_the_example_chooses_one_server() -> None:
    words = ("--env-file", ROOT / "deploy/env.example", "config", "--services")
    assert set(compose(*words).split()) == PROFILES["single"]


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_is_a_whole_system(services: dict[str, dict[str, Any]], profile: str) -> None:
    found = {name for name, item in services.items() if profile in item["profiles"]}
    assert found == PROFILES[profile]
    # a service that is needed is there, unless it may be absent
    for name in found:
        for needed, how in services[name].get("depends_on", {}).items():
            assert needed in found or how.get("required") is False, (name, needed)
    # the address `database` leads to one server
    aliases = [
        name
        for name in found
        if "database"
        in (name, *services[name].get("networks", {}).get("default", {}).get("aliases", []))
    ]
    assert len(aliases) == 1


def test_nodes_run_what_the_doctor_wants(services: dict[str, dict[str, Any]]) -> None:
    for name in ("coordinator", "worker-1", "worker-2"):
        words = services[name]["command"]
        settings = dict(word.split("=", 1) for word in words if "=" in word)
        assert settings["shared_preload_libraries"] == "citus,timescaledb"
        assert settings["max_parallel_workers_per_gather"] == "0"
        assert int(settings["max_prepared_transactions"]) > 0
        assert not any("trust" in str(value) for value in services[name]["environment"].values())
        # a name that is no setting would keep the server from starting
        assert words[0] == "postgres" and set(words[1::2]) == {"-c"}


def test_nodes_have_what_local_nodes_have(services: dict[str, dict[str, Any]]) -> None:
    """What `headwater dev up --workers 2` sets because there are nodes."""
    machine = Machine(memory_bytes=24 * GB, cores=4, free_disk_bytes=100 * GB)
    alone, node = (settings_for(machine, ("citus", "timescaledb"), workers=n) for n in (0, 2))
    elsewhere = {"citus.local_hostname", "citus.node_conninfo", "max_worker_processes"}
    of_memory = {
        "shared_buffers", "effective_cache_size", "maintenance_work_mem", "work_mem",
        "max_locks_per_transaction",
    }  # fmt: skip
    of_disk = {"max_wal_size", "min_wal_size"}
    wanted = {k: v for k, v in node.items() if alone.get(k) != v}
    for name in ("coordinator", "worker-1", "worker-2"):
        settings = dict(word.split("=", 1) for word in services[name]["command"] if "=" in word)
        for key in wanted.keys() - elsewhere - of_memory - of_disk:
            assert settings[key] == wanted[key], key


def test_commands_and_settings_exist(services: dict[str, dict[str, Any]]) -> None:
    for name in ("migrate", "api", "relay", "jobs"):
        program, command = services[name]["command"]
        assert program == "headwater"
        assert command in COMMANDS
        assert services[name]["environment"].keys() <= SETTINGS


def test_what_reads_the_archive_has_its_folder(services: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "relay", "jobs", "migrate"):
        assert "archive:/srv/archive" in services[name]["volumes"]
        assert "ARCHIVE_URL" in services[name]["environment"]
    # only the owner of a chunk may drop it
    assert "//headwater_owner:" in services["jobs"]["environment"]["OWNER_DATABASE_URL"]


def test_one_server_has_locks_for_years_of_chunks(services: dict[str, dict[str, Any]]) -> None:
    words = services["database"]["command"]
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    assert int(settings["max_locks_per_transaction"]) >= LOCKS


def test_servers_have_health_checks(services: dict[str, dict[str, Any]]) -> None:
    for name in ("database", "coordinator", "worker-1", "worker-2", "redis", "api", "relay"):
        assert services[name]["healthcheck"]["test"], name


def test_nothing_starts_before_what_it_needs(services: dict[str, dict[str, Any]]) -> None:
    migrated = {"condition": "service_completed_successfully"}
    needed = services["migrate"]["depends_on"]
    assert needed["database"]["condition"] == "service_healthy"
    assert needed["register"]["condition"] == "service_completed_successfully"
    assert services["api"]["depends_on"]["migrate"] == migrated
    assert services["jobs"]["depends_on"]["migrate"] == migrated
    assert services["relay"]["depends_on"]["migrate"] == migrated


def test_ports_are_for_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_only_migrations_are_superuser(services: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "relay", "jobs"):
        environment = services[name]["environment"]
        assert ("OWNER_DATABASE_URL" in environment) is (name == "jobs")  # headwater_owner
        urls = [value for key, value in environment.items() if key.endswith("DATABASE_URL")]
        assert not any(url.split("//")[1].startswith("postgres:") for url in urls)


def test_every_variable_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+):-", COMPOSE.read_text())) | {"COMPOSE_PROFILES"}
    lines = (ROOT / "deploy/env.example").read_text().splitlines()
    assert used == {line.split("=")[0] for line in lines if "=" in line}


def test_database_script_makes_every_role(services: dict[str, dict[str, Any]]) -> None:
    script = (ROOT / "deploy/database/roles.sh").read_text()
    made = re.search(r"for role in (.*); do", script)
    assert made is not None
    assert {f"headwater_{role}" for role in made[1].split()} == set(ROLES) - {SUPERUSER}
    for name in ("database", "coordinator", "worker-1", "worker-2"):
        given = services[name]["environment"].keys()
        assert {f"HEADWATER_{role.upper()}_PASSWORD" for role in made[1].split()} <= given
        mounts = [mount.split(":")[0] for mount in services[name]["volumes"]]
        assert "./deploy/database/roles.sh" in mounts


def test_our_own_images_are_built_where_they_are_missing(
    services: dict[str, dict[str, Any]],
) -> None:
    own = [item for item in services.values() if item["image"].endswith(":local")]
    assert len(own) > 1
    assert all("build" in item for item in own)


def test_both_profiles_have_the_same_timescaledb(services: dict[str, dict[str, Any]]) -> None:
    recipe = (ROOT / "deploy/database/Dockerfile").read_text()
    assert f"ARG TIMESCALEDB_IMAGE={services['database']['image']}\n" in recipe


def test_mounted_and_copied_files_exist(services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for item in services.values() for mount in item.get("volumes", [])]
    assert all((ROOT / mount.split(":")[0]).exists() for mount in mounts if mount[0] == ".")
    for name in ("api", "coordinator"):
        recipe = (ROOT / services[name]["build"]["dockerfile"]).read_text().replace("\\\n", " ")
        for line in re.findall(r"^COPY (?!--from)(.*)$", recipe, flags=re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source
