"""What the containers of profile `distributed` run, run here on real servers."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fix_database import BINDIR, ROLES, SUPERUSER, Server, running

from app.local.account import account_for
from app.migrate import migrate
from app.paths import ROOT

SCRIPTS = ROOT / "deploy/database"


def node_options() -> list[str]:
    """What docker-compose.yml starts a node with."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    words = services["worker-1"]["command"][1:]
    return [word.replace("${NODE_SHARED_BUFFERS:-512MB}", "64MB") for word in words]


def check(folder: Path, bindir: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    script = folder / "check.sh"
    shutil.copy(SCRIPTS / "check.sh", script)
    folder.chmod(0o755)
    account = account_for(folder / "none")
    return account.run("env", f"PGBIN={bindir}", "sh", script, *options)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' user can reach."""
    made = Path("/tmp") / f"headwater-deploy-{os.getpid()}"
    made.mkdir(mode=0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.citus
def test_both_extensions_work_with_the_nodes_settings(folder: Path) -> None:
    done = check(folder, BINDIR, *node_options())
    assert done.returncode == 0, done.stderr


def test_an_image_without_one_of_them_is_not_built(folder: Path) -> None:
    bindir = folder / "bin"
    bindir.mkdir()
    for name in ("initdb", "pg_ctl", "psql"):
        (bindir / name).write_text("#!/bin/sh\nexit 1\n")
        (bindir / name).chmod(0o755)
    assert check(folder, bindir).returncode != 0


def test_a_node_shows_passwords_and_trusts_nobody(tmp_path: Path) -> None:
    passfile = tmp_path / "pgpass"
    secrets = {f"{name.upper()}_PASSWORD": f"secret-{name}" for name in ROLES}
    done = subprocess.run(
        ["sh", str(SCRIPTS / "node.sh"), str(passfile)],
        env={
            "PATH": os.environ["PATH"],
            "PGPASSFILE": str(passfile),
            "POSTGRES_PASSWORD": "secret-postgres",
            "ENTRYPOINT": "cat",
            **secrets,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {f"*:*:*:{role}:secret-{role}" for role in (*ROLES, SUPERUSER)}
    assert set(done.stdout.splitlines()) == wanted
    assert passfile.stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def nodes() -> Iterator[Server]:
    """A coordinator and two workers that don't know each other."""
    with running(2) as server:
        yield server


@pytest.mark.citus
def test_register_makes_one_database_of_several(nodes: Server) -> None:
    database = nodes.create()
    coordinator, *workers = [f"127.0.0.1:{node.port}" for node in nodes.nodes]
    environment = {
        "PATH": f"{BINDIR}:{os.environ['PATH']}",
        "COORDINATOR": coordinator,
        "WORKERS": " ".join(workers),
        "PGUSER": SUPERUSER,
        "PGPASSWORD": nodes.password,
        "PGDATABASE": database,
    }
    for _ in range(2):  # a container may start again
        done = subprocess.run(
            ["sh", str(SCRIPTS / "register.sh")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert all(worker in done.stdout for worker in workers)
    known = nodes.execute(
        "select groupid = 0, nodename || ':' || nodeport, isactive from pg_dist_node order by 1, 2",
        database,
    )
    assert known == [
        *((False, worker, True) for worker in sorted(workers)),
        (True, coordinator, True),
    ]
    for role in ROLES:  # as roles.sh does on every node
        nodes.everywhere(f"create role {role} login password '{nodes.password}'")
    asyncio.run(migrate(nodes.url(database)))
    spread = nodes.execute(
        "select count(distinct nodeport) from citus_shards"
        " where table_name = 'telemetry.reading'::regclass",
        database,
    )
    assert spread == [(2,)]
