"""An up-to-date database equals a fresh one, whatever road it came by: the real files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from catalogue import catalogue
from fix_database import Database
from fix_repository import Repository

from app.migrate import migrate
from app.paths import MIGRATIONS, SQL

Make = Callable[[], Database]


def difference(one: list[str], other: list[str]) -> list[str]:
    return sorted(set(one) ^ set(other))


@pytest.fixture
def real(folders: Repository) -> Repository:
    """A copy of the real files that a test may change."""
    folders.remove("migrations/0001_role.sql")
    shutil.copytree(MIGRATIONS, folders.migrations, dirs_exist_ok=True)
    shutil.copytree(SQL, folders.sql, dirs_exist_ok=True)
    return folders


def touch_all(folder: Path) -> int:
    """Change the text of every re-creatable file without changing what it says."""
    count = 0
    for path in folder.rglob("*.sql"):
        text = path.read_text()
        if "-- apply: once" not in text and "queries" not in path.relative_to(folder).parts:
            path.write_text(f"{text}\n-- touched\n")
            count += 1
    return count


async def test_sql_applied_twice_changes_nothing(
    real: Repository, empty_database: Database
) -> None:
    real.database = empty_database
    await real.migrate()
    before = catalogue(real.url)
    touched = touch_all(real.sql)
    again = await real.migrate()
    assert 0 < len(again) <= touched
    assert difference(before, catalogue(real.url)) == []
    assert await real.migrate() == []


async def test_up_to_date_database_equals_fresh_one(
    real: Repository, make_empty_database: Make
) -> None:
    """One is migrated in a single run, the other one migration a run, sql/ at the end."""
    fresh, stepped = make_empty_database(), make_empty_database()
    real.database = fresh
    await real.migrate()
    real.database = stepped
    later = sorted(real.migrations.glob("*.sql"))
    for path in later:
        path.rename(path.with_suffix(".later"))
    whole, real.sql = real.sql, real.sql.with_name("none")
    for path in later:
        path.with_suffix(".later").rename(path)
        await real.migrate()
    real.sql = whole
    await real.migrate()
    assert difference(catalogue(fresh.url()), catalogue(stepped.url())) == []


async def test_real_files_leave_nothing_to_do(database: Database) -> None:
    assert (await migrate(database.url())).applied == ()


async def test_catalogue_sees_a_difference(repository: Repository) -> None:
    """The comparison itself: each of these must show."""
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    await repository.migrate()
    before = catalogue(repository.url)
    for change in (
        "alter table app.t add b int",
        "alter table app.t add constraint t_check check (a > 0)",
        "create index t_a_idx on app.t (a)",
        "create function app.f() returns int language sql as 'select 1'",
        "create or replace function app.f() returns int language sql as 'select 2'",
        "create function app.tg() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger x after insert on app.t execute function app.tg()",
        "grant select on app.t to public",
        "comment on table app.t is 'new'",
        "comment on column app.t.a is 'new'",
        "create view app.v as select a from app.t",
        "alter table app.t owner to postgres",
    ):
        repository.query(change)
        after = catalogue(repository.url)
        assert difference(before, after), change
        before = after
