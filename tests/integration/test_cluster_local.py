"""`headwater dev up --workers N+1` on a database in use gives the new worker all that it needs."""

import asyncio
from functools import partial

import msgspec
import pytest
from click.testing import CliRunner

from app.cli import group
from app.local import cli
from app.local.runtime import Runtime
from app.local.temporary import temporary
from app.migrate import migrate

pytestmark = pytest.mark.citus

SMALL = {"shared_buffers": "64MB"}


def test_dev_up_takes_a_further_worker_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary(workers=1, with_redis=False, settings=SMALL) as runtime:
        asyncio.run(migrate(runtime.superuser_url))
        made = partial(Runtime, runtime.folder.path, with_redis=False, settings=SMALL)
        monkeypatch.setattr(cli, "Runtime", made)
        runner = CliRunner(env={"OWNER_DATABASE_URL": runtime.superuser_url})
        up = runner.invoke(group, ["dev", "up", "--workers", "2"])
        assert up.exit_code == 0, (up.output, up.exception)
        new = f"127.0.0.1:{made().workers[1].port}"
        status = msgspec.json.decode(runner.invoke(group, ["cluster", "status", "--json"]).output)
        assert status["is_complete"]
        assert [node["node"] for node in status["nodes"]][-1] == new
        moved = runner.invoke(group, ["cluster", "rebalance"])
        assert moved.exit_code == 0, (moved.output, moved.exception)
        assert "1 groups moved" in moved.output
        status = msgspec.json.decode(runner.invoke(group, ["cluster", "status", "--json"]).output)
        assert [node["groups"] for node in status["nodes"]] == [0, 1, 1]
        assert status["is_complete"]
        assert "-2    127.0.0.1:" in runner.invoke(group, ["dev", "up"]).output
