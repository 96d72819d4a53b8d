"""Objects for what the server offers: chosen by asking it, and kept once built."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from fix_repository import Repository

from app.errors import CommandError
from app.migrate.ledger import Applied, Ledger
from app.migrate.plan import make_plan
from app.migrate.source import File, checksum

VIEW = "create view app.rollup as select '{}' as filled_by;"


def once(edition: str, version: int = 1) -> str:
    return f"-- apply: once\n-- version: {version}\n{VIEW.format(edition)}"


def other(edition: str) -> str:
    return "apache" if edition == "community" else "community"


async def test_only_the_offered_edition_is_applied(
    repository: Repository, timescale: Callable[[], str]
) -> None:
    offered = timescale()
    for edition in ("apache", "community"):
        repository.write(f"sql/edition/{edition}/rollup.sql", once(edition))
    result = await repository.run()
    assert result.editions == (offered,)
    assert repository.query("select filled_by from app.rollup") == [(offered,)]
    assert repository.query("select edition from ops.migration where number is null") == [
        (offered,)
    ]
    assert (await repository.states())[f"sql/edition/{other(offered)}/rollup.sql"] == "not offered"
    assert (await repository.status()).complaint is None


async def test_without_timescaledb_no_edition_applies(repository: Repository) -> None:
    repository.write("sql/edition/apache/rollup.sql", once("apache"))
    assert await repository.migrate() == ["migrations/0001_role.sql"]
    assert (await repository.status()).notes == (
        "which edition files apply is known once TimescaleDB is in the database",
    )


@pytest.mark.citus
async def test_citus_files_apply_where_the_extension_is(
    repository: Repository, timescale: Callable[[], str]
) -> None:
    # by such a migration a database is known to be spread
    repository.write("migrations/0002_spread.sql", "-- edition: citus\nselect 1;")
    repository.write("sql/edition/citus/shards.sql", "select 1;")
    repository.query("create extension citus")
    timescale()
    assert (await repository.migrate())[-1] == "sql/edition/citus/shards.sql"


async def test_edition_file_changes_by_a_new_version_only(
    repository: Repository, timescale: Callable[[], str]
) -> None:
    name = f"sql/edition/{timescale()}/rollup.sql"
    repository.write(name, once("x"))
    repository.write("sql/view.sql", f"-- requires: {name}\nselect * from app.rollup;")
    await repository.migrate()
    repository.write(name, once("y"))
    with pytest.raises(CommandError, match=r"edited after .*raise its '-- version:'"):
        await repository.migrate()
    repository.write(name, once("y", version=2).replace("create", "drop view app.rollup;\ncreate"))
    assert await repository.migrate() == [name, "sql/view.sql"]
    assert repository.query("select filled_by from app.rollup") == [("y",)]
    repository.write(name, once("x"))
    with pytest.raises(CommandError, match="version 1 is older than 2, which is applied"):
        await repository.migrate()


async def test_edition_file_without_transaction_runs_after_the_others(
    repository: Repository, timescale: Callable[[], str]
) -> None:
    name = f"sql/edition/{timescale()}/a_vacuum.sql"
    repository.write(name, "-- apply: once\n-- version: 1\n-- transaction: none\nvacuum;")
    repository.write("sql/view.sql", "select 1;")
    assert (await repository.migrate())[1:] == ["sql/view.sql", name]
    assert await repository.migrate() == []


@pytest.mark.parametrize("built", ["apache", "community"])
def test_database_stays_with_the_edition_it_was_built_for(built: str) -> None:
    files = [
        File(
            name=f"sql/edition/{one}/x.sql", text="", checksum=checksum(""), edition=one, once=True
        )
        for one in ("apache", "community")
    ]
    row = Applied(
        file=f"sql/edition/{built}/x.sql",
        version=1,
        number=None,
        edition=built,
        checksum=checksum(""),
        statements_total=0,
        statements_done=0,
        applied_at=datetime.now(UTC),
    )
    plan = make_plan([], files, Ledger((row,), (), frozenset({other(built), "citus"})))
    assert plan.steps == ()
    assert plan.problems == ()
    assert plan.editions == {built}
    assert "stays on one server" in plan.notes[1]
    assert f"built for {built}, the server now offers {other(built)}" in plan.notes[0]


def test_a_fresh_database_with_citus_is_distributed() -> None:
    files = [
        File(name="sql/x.sql", text="", checksum=checksum("")),
        File(name="sql/y.sql", text="", checksum=checksum(""), where=frozenset({"shards"})),
    ]
    step = File(
        name="migrations/0001_d.sql",
        text="",
        checksum=checksum(""),
        number=1,
        edition="citus",
        once=True,
    )
    plan = make_plan([step], files, Ledger((), (), frozenset({"citus"})))
    assert [one.file.name for one in plan.steps] == ["migrations/0001_d.sql", "sql/x.sql"]
    alone = make_plan([step], files, Ledger((), (), frozenset({"apache"})))
    assert [one.file.name for one in alone.steps] == ["sql/x.sql", "sql/y.sql"]
