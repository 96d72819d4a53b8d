"""What is refused before the database is asked."""

import pytest
from fix_repository import Repository

from app.errors import CommandError
from app.migrate.source import read_migrations, read_sql


def names(folders: Repository) -> list[str]:
    return [file.name.removeprefix("sql/") for file in read_sql(folders.sql)]


def test_two_migrations_of_one_number_are_refused(folders: Repository) -> None:
    folders.write("migrations/0001_again.sql", "select 1;")
    with pytest.raises(CommandError, match=r"number 0001 is taken by migrations/0001_again\.sql"):
        read_migrations(folders.migrations)


@pytest.mark.parametrize("name", ["2_short.sql", "0002-dash.sql", "0002_Upper.sql", "notes.sql"])
def test_migration_with_another_kind_of_name_is_refused(folders: Repository, name: str) -> None:
    folders.write(f"migrations/{name}", "select 1;")
    with pytest.raises(CommandError, match="a migration is called NNNN_what"):
        read_migrations(folders.migrations)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("-- transaction: off", "is not '-- transaction: none'"),
        ("-- role: owner", "is not '-- role: superuser'"),
        ("-- lock-timeout: soon", "is not a time like"),
        ("-- lock_timeout: 5s", "means 'lock-timeout'"),
        ("-- requires: a.sql", "is for files under sql/"),
        ("begin;", "no begin here"),
        ("-- fine\nselect 1;\nCOMMIT;", "0002_x.sql:3: no commit here"),
    ],
)
def test_header_that_cannot_be_right_is_refused(
    folders: Repository, header: str, complaint: str
) -> None:
    folders.write("migrations/0002_x.sql", f"{header}\nselect 1;")
    with pytest.raises(CommandError, match=complaint):
        read_migrations(folders.migrations)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("-- transaction: none", "needs '-- apply: once'"),
        ("-- apply: once", "needs '-- version: 1'"),
        ("-- version: 2", "has no meaning without"),
        ("-- apply: once\n-- version: x", "is not a whole number"),
        ("-- requires: nowhere.sql", "requires sql/nowhere.sql, which is not there"),
    ],
)
def test_header_of_sql_that_cannot_be_right_is_refused(
    folders: Repository, header: str, complaint: str
) -> None:
    folders.write("sql/alert/x.sql", f"{header}\nselect 1;")
    with pytest.raises(CommandError, match=complaint):
        read_sql(folders.sql)


def test_header_times_are_read(folders: Repository) -> None:
    folders.write(
        "migrations/0002_x.sql", "-- lock-timeout: 500ms\n-- statement-timeout: 10min\nselect 1;"
    )
    file = read_migrations(folders.migrations)[-1]
    assert (file.lock_timeout_ms, file.statement_timeout_ms) == (500, 600_000)


def test_prose_with_a_colon_is_no_header(folders: Repository) -> None:
    folders.write("migrations/0002_x.sql", "-- Why: because\n-- see also: docs\nselect 1;")
    assert len(read_migrations(folders.migrations)) == 2


def test_order_is_by_path_but_required_files_come_first(folders: Repository) -> None:
    folders.write("sql/alert/b.sql", "-- requires: telemetry/z.sql, alert/c.sql\nselect 1;")
    folders.write("sql/alert/c.sql", "select 1;")
    folders.write("sql/alert/a.sql", "select 1;")
    folders.write("sql/telemetry/z.sql", "select 1;")
    folders.write("sql/queries/alert.sql", "-- name: not_ours\nselect 1;")
    assert names(folders) == ["alert/a.sql", "alert/c.sql", "telemetry/z.sql", "alert/b.sql"]


def test_requires_takes_a_glob_over_editions(folders: Repository) -> None:
    folders.write("sql/analytics/view.sql", "-- requires: edition/*/rollup.sql\nselect 1;")
    folders.write("sql/edition/apache/rollup.sql", "select 1;")
    folders.write("sql/edition/community/rollup.sql", "select 1;")
    assert names(folders)[-1] == "analytics/view.sql"


def test_files_that_require_each_other_are_refused(folders: Repository) -> None:
    folders.write("sql/a.sql", "-- requires: b.sql\nselect 1;")
    folders.write("sql/b.sql", "-- requires: a.sql\nselect 1;")
    with pytest.raises(CommandError, match=r"require each other: sql/\w\.sql <- sql/\w\.sql <- "):
        read_sql(folders.sql)


def test_unknown_edition_is_refused(folders: Repository) -> None:
    folders.write("sql/edition/enterprise/x.sql", "select 1;")
    with pytest.raises(CommandError, match="apache,community,citus"):
        read_sql(folders.sql)


def test_line_ends_do_not_change_a_checksum(folders: Repository) -> None:
    folders.write("migrations/0002_x.sql", "select 1;\nselect 2;\n")
    before = read_migrations(folders.migrations)[-1].checksum
    (folders.migrations / "0002_x.sql").write_bytes(b"select 1;\r\nselect 2;\r\n")
    assert read_migrations(folders.migrations)[-1].checksum == before
