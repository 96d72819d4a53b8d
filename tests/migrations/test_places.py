"""What a file says on one server is said on shards with the shards' names, and nothing else changes."""

import pytest
from fix_repository import Repository

from app.errors import CommandError
from app.migrate.places import Group, Node, localise, names_in, names_made
from app.migrate.source import File, checksum, read_sql
from app.paths import SQL

GROUP = Group(
    shard_id=7,
    node=Node(1, "h", 1),
    begins=0,
    names={
        "telemetry.reading": "telemetry.reading_7",
        "telemetry.reading_1m": "telemetry.reading_1m_9",
        "alert.outbox": "alert.outbox_shard_11",
        "telemetry.sensor": "telemetry.sensor_2",
    },
)


def said(text: str, made: str = "") -> str:
    files = [File(name="sql/x.sql", text=made, checksum=checksum(made))]
    return localise(text, names_in(GROUP, names_made(files)))


def test_tables_get_their_own_shards_numbers() -> None:
    assert said("from telemetry.reading as r, telemetry.reading_1m, telemetry.readings") == (
        "from telemetry.reading_7 as r, telemetry.reading_1m_9, telemetry.readings"
    )
    assert said("select 'telemetry.reading'::regclass; insert into alert.outbox (a)") == (
        "select 'telemetry.reading_7'::regclass; insert into alert.outbox_shard_11 (a)"
    )


def test_reference_tables_are_the_nodes_copies() -> None:
    assert said("join telemetry.sensor as s") == "join telemetry.sensor_2 as s"


@pytest.mark.parametrize(
    ("made", "text", "expected"),
    [
        (
            "create or replace function a.f(p int)\n",
            "select a.f(1), a.f2(1)",
            "select a.f_7(1), a.f2(1)",
        ),
        (
            "create unique index x_idx\n on y",
            "comment on index z.x_idx",
            "comment on index z.x_idx_7",
        ),
        ("create index if not exists x_idx on y", "drop index x_idx", "drop index x_idx_7"),
        (
            "create or replace trigger _500_x\n",
            "create or replace trigger _500_x ",
            "create or replace trigger _500_x_7 ",
        ),
        ("create materialized view a.v\n", "from a.v", "from a.v_7"),
        (
            "create table a.t (\n    constraint t_pkey primary key (x)\n)",
            "a.t t_pkey",
            "a.t_7 t_pkey_7",
        ),
        ("create sequence a.s;", "nextval('a.s')", "nextval('a.s_7')"),
        ("create or replace procedure a.p()", "call a.p()", "call a.p_7()"),
    ],
)
def test_what_shards_make_is_called_after_the_group(made: str, text: str, expected: str) -> None:
    assert said(text, made) == expected


def test_nothing_that_shards_make_is_missed() -> None:
    """Each `create` at the start of a line in a file for shards is one that gets a number."""
    for file in read_sql(SQL):
        if "shards" in file.where:
            lines = [line for line in file.text.splitlines() if line.startswith("create ")]
            assert len(names_made([file])) >= len({line.split("(")[0] for line in lines}) - 2, (
                file.name
            )


def test_an_unknown_place_is_refused(repository: Repository) -> None:
    repository.write("sql/x.sql", "-- where: shard\nselect 1;")
    with pytest.raises(CommandError, match="'-- where: shard' is none of"):
        read_sql(repository.sql)
