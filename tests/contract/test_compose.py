"""docker-compose.yml is accepted by Docker, and says what the program understands."""

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
from app.paths import ROOT
from app.settings import Settings

COMPOSE = ROOT / "docker-compose.yml"
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


def test_docker_accepts_it(tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("docker compose is not on this machine; the other tests parse the file")
    empty = tmp_path / "empty.env"
    empty.touch()
    for env in (empty, ROOT / "deploy/env.example"):
        done = subprocess.run(
            [*command, "-f", COMPOSE, "--env-file", env, "config", "--quiet"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_it_is_the_whole_system(services: dict[str, dict[str, Any]]) -> None:
    assert {"database", "redis", "migrate", "api", "jobs"} <= services.keys()


def test_commands_and_settings_exist(services: dict[str, dict[str, Any]]) -> None:
    for name in ("migrate", "api", "jobs"):
        program, command = services[name]["command"]
        assert program == "headwater"
        assert command in COMMANDS
        assert services[name]["environment"].keys() <= SETTINGS


def test_servers_have_health_checks(services: dict[str, dict[str, Any]]) -> None:
    for name in ("database", "redis", "api"):
        assert services[name]["healthcheck"]["test"], name


def test_nothing_starts_before_what_it_needs(services: dict[str, dict[str, Any]]) -> None:
    migrated = {"condition": "service_completed_successfully"}
    assert services["migrate"]["depends_on"]["database"] == {"condition": "service_healthy"}
    assert services["api"]["depends_on"]["migrate"] == migrated
    assert services["jobs"]["depends_on"]["migrate"] == migrated


def test_ports_are_for_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_only_migrations_are_superuser(services: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "jobs"):
        assert "OWNER_DATABASE_URL" not in services[name]["environment"]
        assert "postgres:" not in services[name]["environment"]["DATABASE_URL"].split("//")[1]


def test_every_variable_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+):-", COMPOSE.read_text()))
    lines = (ROOT / "deploy/env.example").read_text().splitlines()
    assert used == {line.split("=")[0] for line in lines if "=" in line}


def test_database_script_makes_every_role(services: dict[str, dict[str, Any]]) -> None:
    script = (ROOT / "deploy/database/roles.sh").read_text()
    made = re.search(r"for role in (.*); do", script)
    assert made is not None
    assert {f"headwater_{role}" for role in made[1].split()} == set(ROLES) - {SUPERUSER}
    given = services["database"]["environment"].keys()
    assert {f"HEADWATER_{role.upper()}_PASSWORD" for role in made[1].split()} <= given


def test_mounted_and_copied_files_exist(services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for item in services.values() for mount in item.get("volumes", [])]
    assert all((ROOT / mount.split(":")[0]).exists() for mount in mounts if mount[0] == ".")
    recipe = (ROOT / services["api"]["build"]["dockerfile"]).read_text()
    for line in re.findall(r"^COPY (.*)$", recipe, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
