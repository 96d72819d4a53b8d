"""Ports and passwords are chosen once and survive; what a person added to the file too."""

import socket
from pathlib import Path

import pytest

from app.local import credentials
from app.local.credentials import REDIS, ROLES, SUPERUSER
from app.settings import Settings


@pytest.fixture
def env(tmp_path: Path) -> Path:
    return tmp_path / "env"


def test_first_load_invents_everything(env: Path) -> None:
    made, fresh = credentials.load(env, bindir="/pg/bin")
    assert fresh == {*ROLES, REDIS}
    assert made.postgres_port != made.redis_port
    assert len(set(made.passwords.values())) == len(ROLES)
    assert made.bindir == "/pg/bin"


def test_second_load_invents_nothing(env: Path) -> None:
    made, _ = credentials.load(env, bindir="/pg/bin")
    credentials.save(env, made)
    assert credentials.load(env, bindir="/other") == (made, frozenset())


def test_only_the_owner_may_read_the_file(env: Path) -> None:
    credentials.save(env, credentials.load(env, bindir="")[0])
    assert env.stat().st_mode & 0o777 == 0o600


def test_a_lost_line_makes_only_its_own_password_fresh(env: Path) -> None:
    made, _ = credentials.load(env, bindir="")
    credentials.save(env, made)
    kept = [line for line in env.read_text().splitlines() if not line.startswith("OWNER_")]
    env.write_text("\n".join(kept))
    again, fresh = credentials.load(env, bindir="")
    assert fresh == {SUPERUSER}
    assert again.postgres_port == made.postgres_port
    assert again.passwords["headwater_app"] == made.passwords["headwater_app"]


def test_lines_added_by_hand_are_kept(env: Path) -> None:
    env.write_text("INGEST_WRITERS=4\n")
    credentials.save(env, credentials.load(env, bindir="")[0])
    assert credentials.read(env)["INGEST_WRITERS"] == "4"


def test_a_file_that_says_the_same_is_not_written(env: Path) -> None:
    made, _ = credentials.load(env, bindir="")
    credentials.save(env, made)
    before = env.stat().st_mtime_ns
    credentials.save(env, made)
    assert env.stat().st_mtime_ns == before


def test_the_names_are_those_of_the_settings(env: Path) -> None:
    made, _ = credentials.load(env, bindir="")
    settings = Settings.from_env(made.environment())
    assert settings.database_url == made.database_url("headwater_app")
    assert settings.ingest_database_url == made.database_url("headwater_ingest")
    assert settings.owner_database_url == made.database_url(SUPERUSER)
    assert settings.redis_url == made.redis_url


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not credentials.is_free(server.getsockname()[1])
    assert credentials.is_free(credentials.free_port())
