"""The relay encrypts, with a certificate of the test's own."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_cold import drop_logins
from fix_database import Database, Server
from fix_relay import ARGUMENTS, Relay, login_of, psql, relaying
from fix_server import environment_of

from app.local.credentials import free_port


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    made = folder / f"{name}.crt", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    words += ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(words, check=True, capture_output=True)
    return made


class Port:
    """A relay that encrypts, and a tenant's login by way of it."""

    def __init__(self, relay: Relay, login: str, folder: Path) -> None:
        self.relay = relay
        self.login = login
        self.folder = folder

    def url(self, **more: str) -> str:
        return self.relay.url(self.login, **more)


@pytest.fixture(scope="module")
def port(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Port]:
    database = Database(pg_server, pg_server.create(pg_template))
    folder = tmp_path_factory.mktemp("tls")
    mine, key = certificate(folder, "localhost")
    certificate(folder, "elsewhere")
    lock = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret"]
    subprocess.run([*lock, "-out", str(folder / "locked.key")], check=True, capture_output=True)
    environment = environment_of(database) | {
        "RELAY_CERTIFICATE": str(mine),
        "RELAY_KEY": str(key),
    }
    try:
        with psycopg.connect(database.url(), autocommit=True) as line:
            line.execute("insert into identity.tenant (slug, title) values ('a', 'a')")
        login = login_of(database, "a")
        with relaying(environment, free_port(), folder / "relay.log") as relay:
            yield Port(relay, login, folder)
    finally:
        pg_server.drop(database.name)
        drop_logins(pg_server, "a")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_psql_connects_encrypted(port: Port, mode: str) -> None:
    trusted = "" if mode == "require" else str(port.folder / "localhost.crt")
    url = port.url(sslmode=mode, sslrootcert=trusted, host="localhost", hostaddr="127.0.0.1")
    said = psql(url, "-c", "\\conninfo", "-c", "select count(*) from sensor")
    assert said.stdout.splitlines()[-1:] == ["0"], said.stderr
    assert "SSL connection" in said.stdout
    large = psql(url, "-c", "select repeat('x', 1000) from generate_series(1, 20000)")
    assert large.stdout.count("\n") == 20_000, large.stderr


def test_another_certificate_is_not_trusted(port: Port) -> None:
    for more, said in (
        ({"sslmode": "verify-ca", "sslrootcert": str(port.folder / "elsewhere.crt")}, "verify"),
        (
            {
                "sslmode": "verify-full",
                "sslrootcert": str(port.folder / "localhost.crt"),
                "host": "elsewhere",
                "hostaddr": "127.0.0.1",
            },
            "does not match host name",
        ),
    ):
        found = psql(port.url(**more), "-c", "select 1")
        assert found.returncode and said in found.stderr, found.stderr


def test_encryption_is_offered_not_demanded(port: Port) -> None:
    assert psql(port.url(sslmode="disable"), "-c", "select 1").stdout == "1\n"
    preferred = psql(port.url(sslmode="prefer"), "-c", "\\conninfo")
    assert "SSL connection" in preferred.stdout


@pytest.mark.parametrize(
    ("crt", "key", "said"),
    [
        ("nothing.crt", "localhost.key", "RELAY_CERTIFICATE: {folder}/nothing.crt: No such file"),
        ("localhost.crt", "nothing.key", "RELAY_KEY: {folder}/nothing.key: No such file"),
        ("localhost.crt", "elsewhere.key", "KEY_VALUES_MISMATCH"),
        ("localhost.key", "localhost.key", "RELAY_CERTIFICATE"),
        ("localhost.crt", "locked.key", "without a password"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(port: Port, crt: str, key: str, said: str) -> None:
    environment = {
        "DATABASE_URL": "postgresql://x@127.0.0.1:1/x",
        "SQL_DATABASE_URL": "postgresql://x@127.0.0.1:1/x",
        "RELAY_CERTIFICATE": str(port.folder / crt),
        "RELAY_KEY": str(port.folder / key),
    }
    found = subprocess.run(
        [*ARGUMENTS, "--port", str(free_port())],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 1
    assert said.format(folder=port.folder) in found.stderr
    assert found.stderr.count("\n") == 1
