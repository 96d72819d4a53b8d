"""Migrations are applied once, in order, and their history is not to be edited."""

import pytest
from fix_repository import Repository

from app.errors import CommandError
from app.migrate import migrate


async def test_new_migrations_are_applied_in_order_and_once(repository: Repository) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    repository.write("migrations/0010_column.sql", "alter table app.t add b int;")
    assert await repository.migrate() == [
        "migrations/0001_role.sql",
        "migrations/0002_table.sql",
        "migrations/0010_column.sql",
    ]
    assert await repository.migrate() == []


async def test_objects_and_ledger_belong_to_the_owner_role(repository: Repository) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    await repository.migrate()
    owners = repository.query(
        "select distinct tableowner from pg_tables where schemaname in ('app', 'ops')"
    )
    assert owners == [("headwater_owner",)]


async def test_ledger_is_in_place_for_the_owner_before_the_second_migration(
    repository: Repository,
) -> None:
    repository.write("migrations/0002_table.sql", "create table ops.beat (a int);")
    assert len(await repository.migrate()) == 2


async def test_file_without_the_owner_role_says_what_is_missing(repository: Repository) -> None:
    repository.remove("migrations/0001_role.sql")
    # Roles are cluster-wide, so the only sure way is a connection that may not act as the owner.
    repository.query("drop role if exists nobody_special")
    repository.query("create role nobody_special login password 'x'")
    assert repository.database is not None
    repository.query(f"grant create on database {repository.database.name} to nobody_special")
    repository.write("migrations/0001_table.sql", "create schema app;")
    url = repository.url.replace(
        repository.url.split("@", maxsplit=1)[0], "postgresql://nobody_special:x"
    )
    with pytest.raises(CommandError, match=r"0001_table.sql: can't act as headwater_owner"):
        await migrate(url, migrations=repository.migrations, sql=repository.sql)


async def test_failing_migration_leaves_nothing_and_names_line_and_sqlstate(
    repository: Repository,
) -> None:
    repository.write(
        "migrations/0002_bad.sql",
        "create table app.t (a int);\n\nselect\n    1,\n    nothing\nfrom app.t;\n",
    )
    with pytest.raises(CommandError) as failure:
        await repository.migrate()
    assert str(failure.value) == (
        'migrations/0002_bad.sql:5: 42703: column "nothing" does not exist'
    )
    assert repository.query("select to_regclass('app.t')") == [(None,)]
    assert await repository.states() == {
        "migrations/0001_role.sql": "applied",
        "migrations/0002_bad.sql": "pending",
    }


async def test_failure_without_position_names_the_statement(repository: Repository) -> None:
    repository.write(
        "migrations/0002_bad.sql",
        "create table app.t (a int primary key);\ninsert into app.t\nvalues (1), (1);\n",
    )
    with pytest.raises(CommandError, match=r"0002_bad\.sql:2: 23505: duplicate key .*\(Key \(a\)"):
        await repository.migrate()


async def test_failure_at_commit_names_the_file(repository: Repository) -> None:
    repository.write(
        "migrations/0002_bad.sql",
        "create table app.t (a int primary key deferrable initially deferred);\n"
        "insert into app.t values (1), (1);\n",
    )
    with pytest.raises(CommandError, match=r"0002_bad\.sql: 23505: duplicate key"):
        await repository.migrate()


async def test_edited_migration_is_refused_with_both_checksums(repository: Repository) -> None:
    await repository.migrate()
    repository.write("migrations/0001_role.sql", "select 1;")
    with pytest.raises(
        CommandError,
        match=r"^migrations/0001_role\.sql: edited after it was applied "
        r"\(applied [0-9a-f]{12}, file [0-9a-f]{12}\); restore the file and put the change",
    ):
        await repository.migrate()
    assert (await repository.states())["migrations/0001_role.sql"] == "changed"


async def test_missing_migration_is_refused(repository: Repository) -> None:
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    await repository.migrate()
    repository.remove("migrations/0002_table.sql")
    with pytest.raises(CommandError, match=r"0002_table\.sql: applied .* the file is missing"):
        await repository.migrate()
    assert (await repository.states())["migrations/0002_table.sql"] == "missing"


async def test_number_below_the_highest_applied_is_refused(repository: Repository) -> None:
    repository.write("migrations/0005_late.sql", "select 1;")
    await repository.migrate()
    repository.write("migrations/0003_early.sql", "create table app.t (a int);")
    with pytest.raises(CommandError, match=r"0003 comes before 0005.*rename it to 0006 or later"):
        await repository.migrate()
    assert repository.query("select to_regclass('app.t')") == [(None,)]


async def test_nothing_is_applied_while_the_history_is_wrong(repository: Repository) -> None:
    await repository.migrate()
    repository.write("migrations/0001_role.sql", "select 1;")
    repository.write("migrations/0002_table.sql", "create table app.t (a int);")
    with pytest.raises(CommandError, match="edited"):
        await repository.migrate()
    assert repository.query("select to_regclass('app.t')") == [(None,)]


async def test_settings_of_a_file_end_with_it(repository: Repository) -> None:
    repository.write("migrations/0002_set.sql", "set search_path = app; set work_mem = '1MB';")
    repository.write(
        "migrations/0003_see.sql",
        "create table app.seen as select current_setting('search_path') as path,"
        " current_setting('lock_timeout') as lock, current_setting('statement_timeout') as total;",
    )
    repository.write(
        "migrations/0004_see.sql",
        "-- lock-timeout: 7s\n-- statement-timeout: 2h\ninsert into app.seen select 'x',"
        " current_setting('lock_timeout'), current_setting('statement_timeout');",
    )
    await repository.migrate()
    assert repository.query("select * from app.seen order by path") == [
        ('"$user", public', "5s", "10min"),
        ("x", "7s", "2h"),
    ]


async def test_statement_timeout_of_a_file_stops_it(repository: Repository) -> None:
    repository.write("migrations/0002_slow.sql", "-- statement-timeout: 50ms\nselect pg_sleep(9);")
    with pytest.raises(CommandError, match=r"0002_slow\.sql:2: 57014: .*statement timeout"):
        await repository.migrate()


async def test_status_of_a_database_never_migrated_changes_nothing(repository: Repository) -> None:
    state = await repository.status()
    assert state.steps == (("migrations/0001_role.sql", "new"),)
    assert state.complaint == (
        "the database is behind: migrations/0001_role.sql; run: headwater migrate"
    )
    assert repository.query("select to_regnamespace('ops')") == [(None,)]


async def test_address_that_does_not_answer_is_one_line_without_the_password() -> None:
    with pytest.raises(CommandError, match="can't connect to the database") as failure:
        await migrate("postgresql://postgres:secret@127.0.0.1:1/x")
    assert "secret" not in str(failure.value)
    assert "\n" not in str(failure.value)
