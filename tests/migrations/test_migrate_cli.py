"""`headwater migrate` as people and start-up scripts call it."""

from collections.abc import Callable

import pytest
from fix_repository import Repository

from app import cli
from app.migrate import engine

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def headwater(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line against the test's own files; gives exit status and output."""
    monkeypatch.setenv("OWNER_DATABASE_URL", repository.url)
    for function in (engine.migrate, engine.status):
        assert function.__kwdefaults__ is not None
        places = {"migrations": repository.migrations, "sql": repository.sql}
        monkeypatch.setattr(function, "__kwdefaults__", function.__kwdefaults__ | places)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["headwater", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as exc:
            status = int(exc.code or 0)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_check_dry_run_migrate_status(headwater: Run, repository: Repository) -> None:
    repository.write("sql/view.sql", "create or replace view app.v as select 1 as a;")
    behind = "headwater: the database is behind: migrations/0001_role.sql, sql/view.sql; "
    assert headwater("migrate", "--check") == (1, f"{behind}run: headwater migrate\n")
    planned = "migrations/0001_role.sql  new\nsql/view.sql  new\n"
    assert headwater("migrate", "--dry-run") == (0, planned)
    assert repository.query("select to_regnamespace('ops')") == [(None,)]

    status, said = headwater("migrate")
    assert status == 0
    assert "migrations/0001_role.sql  new  0." in said
    assert "2 files applied in " in said

    assert headwater("migrate", "--check") == (0, "up to date\n")
    assert headwater("migrate", "--dry-run") == (0, "nothing to do\n")
    status, said = headwater("migrate", "--status")
    assert status == 0
    assert said.splitlines()[0].split() == ["file", "state", "edition", "applied", "at"]
    assert said.splitlines()[1].split()[:3] == ["migrations/0001_role.sql", "applied", "any"]


def test_edited_history_is_shown_and_fails_every_mode_but_status(
    headwater: Run,
    repository: Repository,
) -> None:
    headwater("migrate")
    repository.write("migrations/0001_role.sql", "select 1;")
    for words in (["--check"], ["--dry-run"], []):
        status, said = headwater("migrate", *words)
        assert status == 1
        assert said.startswith("headwater: migrations/0001_role.sql: edited after it was applied")
    status, said = headwater("migrate", "--status")
    assert status == 0
    assert "edited after it was applied" in said
