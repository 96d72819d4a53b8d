"""A small repository of SQL files, written and migrated by each test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_database import Database

from app.migrate import Result, Status, migrate, status

ROLE = """-- role: superuser
do $$ begin
    if not exists (select from pg_roles where rolname = 'headwater_owner') then
        create role headwater_owner login;
    end if;
    execute format('grant create on database %I to headwater_owner', current_database());
end $$;
create schema app authorization headwater_owner;
"""


class Repository:
    """migrations/ and sql/ in a folder of the test's own, and a database to apply them to."""

    def __init__(self, folder: Path, database: Database | None) -> None:
        self.migrations = folder / "migrations"
        self.sql = folder / "sql"
        self.database = database
        self.said: list[str] = []
        self.write("migrations/0001_role.sql", ROLE)

    def write(self, name: str, text: str) -> None:
        path = self.sql.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def remove(self, name: str) -> None:
        (self.sql.parent / name).unlink()

    @property
    def url(self) -> str:
        assert self.database is not None
        return self.database.url()

    async def migrate(self, **options: Any) -> list[str]:
        """The files that were applied."""
        return [done.file for done in (await self.run(**options)).applied]

    async def run(self, **options: Any) -> Result:
        return await migrate(
            self.url,
            migrations=self.migrations,
            sql=self.sql,
            report=self.said.append,
            **options,
        )

    async def status(self) -> Status:
        return await status(self.url, migrations=self.migrations, sql=self.sql)

    async def states(self) -> dict[str, str]:
        return {row.file: row.state for row in (await self.status()).rows}

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        assert self.database is not None
        return self.database.execute(statement)


@pytest.fixture
def folders(tmp_path: Path) -> Repository:
    """Files only."""
    return Repository(tmp_path, None)


@pytest.fixture
def repository(tmp_path: Path, empty_database: Database) -> Repository:
    """Files and an empty database."""
    return Repository(tmp_path, empty_database)


@pytest.fixture
def timescale(repository: Repository) -> Callable[[], str]:
    """Puts TimescaleDB into the database; returns the edition it is of."""

    def create() -> str:
        repository.query("create extension if not exists timescaledb")
        rows = repository.query("select current_setting('timescaledb.license')")
        return "community" if rows[0][0] == "timescale" else "apache"

    return create
