"""Files under sql/ are applied again when their text changed, all of them or none."""

import pytest
from fix_repository import Repository

from app.errors import CommandError

ONE = "create or replace function app.one() returns int language sql as 'select 1';"
TWO = "create or replace view app.two as select app.one() + 1 as two;"


async def test_only_what_changed_is_applied_again(repository: Repository) -> None:
    repository.write("sql/alert/one.sql", ONE)
    repository.write("sql/alert/three.sql", "select 3;")
    await repository.migrate()
    repository.write("sql/alert/one.sql", ONE.replace("select 1", "select 11"))
    assert (await repository.states())["sql/alert/one.sql"] == "changed"
    assert await repository.migrate() == ["sql/alert/one.sql"]
    assert repository.query("select app.one()") == [(11,)]
    assert await repository.migrate() == []


async def test_what_requires_a_changed_file_is_applied_after_it(repository: Repository) -> None:
    repository.write("sql/alert/one.sql", ONE)
    repository.write("sql/alert/a_two.sql", f"-- requires: alert/one.sql\n{TWO}")
    repository.write("sql/a_top.sql", "-- requires: alert/a_two.sql\nselect two from app.two;")
    everything = ["sql/alert/one.sql", "sql/alert/a_two.sql", "sql/a_top.sql"]
    assert (await repository.migrate())[1:] == everything
    repository.write("sql/alert/one.sql", f"drop function app.one cascade;\n{ONE}")
    assert await repository.migrate() == everything
    assert repository.query("select two from app.two") == [(2,)]


async def test_all_are_applied_again_after_a_new_migration(repository: Repository) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    repository.write("sql/view.sql", "create or replace view app.v as select a from app.t;")
    await repository.migrate()
    repository.write(
        "migrations/0003_table.sql",
        "drop table app.t cascade; create table app.t (a bigint);",
    )
    assert await repository.migrate() == ["migrations/0003_table.sql", "sql/view.sql"]
    assert repository.query("select * from app.v") == []


async def test_half_a_set_is_never_visible(repository: Repository) -> None:
    repository.write("sql/a.sql", ONE)
    repository.write("sql/b.sql", "select nothing;")
    with pytest.raises(CommandError, match=r"^sql/b\.sql:1: 42703"):
        await repository.migrate()
    assert repository.query("select to_regproc('app.one')") == [(None,)]
    repository.write("sql/b.sql", "select 1;")
    assert await repository.migrate() == ["sql/a.sql", "sql/b.sql"]


async def test_file_that_is_gone_is_forgotten(repository: Repository) -> None:
    repository.write("sql/a.sql", ONE)
    await repository.migrate()
    repository.remove("sql/a.sql")
    assert (await repository.states())["sql/a.sql"] == "gone"
    assert (await repository.status()).complaint is not None
    assert (await repository.run()).forgotten == ("sql/a.sql",)
    assert (await repository.status()).complaint is None


async def test_reasons_are_reported(repository: Repository) -> None:
    repository.write("sql/a.sql", ONE)
    await repository.migrate()
    repository.write("sql/a.sql", ONE + "\n")
    steps = (await repository.status()).steps
    assert steps == (("sql/a.sql", "changed"),)
    repository.said.clear()
    await repository.migrate()
    assert repository.said[0].startswith("sql/a.sql  changed  0.")


async def test_warning_of_the_server_is_passed_on(repository: Repository) -> None:
    repository.write("sql/a.sql", "do $$ begin raise warning 'look at this'; end $$;")
    await repository.migrate()
    assert "warning: look at this" in repository.said
