"""How a file is cut into statements."""

import pytest

from app.migrate.statements import split


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split(sql)]


@pytest.mark.parametrize(
    "quoted",
    [
        "select 'a;b'",
        "select 'it''s; fine'",
        r"select E'\'; still inside'",
        "select U&'d\\0061t;'",
        'select 1 as "a;""b"',
        "select $$a; b$$",
        "do $body$ begin perform $$x;$$; end $body$",
        "select /* a; /* nested; */ b; */ 1",
        "select 1 -- no; end",
        "create rule r as on insert to t do (select 1; select 2)",
        "create function f() returns int begin atomic select case when true then 1 end; end",
        "create or replace procedure p() begin atomic select 1; end",
        "select a$b, $1 from t$x",
        "select 'unterminated ; ",
        "select $tag$ unterminated ; $tag",
    ],
)
def test_semicolon_inside_does_not_cut(quoted: str) -> None:
    assert texts(f"{quoted}\n;")[0].rstrip(" \n;") == quoted.rstrip(" \n;")
    assert len(texts(quoted)) == 1


def test_statements_and_their_lines() -> None:
    found = split("-- header\n\nselect 1;\n\n/* why */ select\n  2; ; select 3")
    assert [(one.text, one.line) for one in found] == [
        ("select 1", 3),
        ("select\n  2", 5),
        ("select 3", 6),
    ]


def test_words_are_lower_case_names_keep_theirs() -> None:
    (one,) = split('CREATE INDEX Concurrently "Odd_Name" on t (a)')
    assert one.words == ("create", "index", "concurrently", "Odd_Name", "on", "t", "a")


def test_nothing_but_comments_is_no_statement() -> None:
    assert split("-- a;\n/* b; */\n;;\n") == []


def test_body_of_plpgsql_does_not_open_a_block() -> None:
    sql = "create function f() returns int language plpgsql as $$ begin return 1; end $$; select 2"
    assert len(texts(sql)) == 2
