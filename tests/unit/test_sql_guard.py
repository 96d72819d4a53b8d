"""The guard without a database: what it refuses, what it lets through, and what it makes of it."""

import re

import pytest
from fix_sql import ATTACKS, QUERIES

from app.errors import QueryRefused
from app.query.guard import check, render
from app.query.lexical import LONGEST, LexicalError, tokens
from app.query.scope import Scope, rewrite

MINE = Scope(tenant_id=7, sensor_ids=[1, 2])
RELATION = re.compile(r'(?:FROM|JOIN|,)\s+"(\w+)"\."(\w+)"')
# refused by the server, as columns that do not exist, or stopped by its limits
NOT_THE_GUARDS = (
    *("select g.current_setting", "select u.to_regclass", "select x.lo_get", "select user"),
    *("select current_role", "select -----", "select * from tenant."),
)


def executed(text: str, parameters: int = 0, scope: Scope = MINE) -> str:
    return render(rewrite(check(text, parameters), scope))


def refusal(text: str) -> str:
    with pytest.raises(QueryRefused) as caught:
        executed(text)
    return caught.value.detail


def test_the_corpus_is_large_enough() -> None:
    assert len({text for _, text in ATTACKS}) >= 200
    assert len(QUERIES) >= 40


@pytest.mark.parametrize(("section", "text"), ATTACKS)
def test_an_attack_is_refused_or_made_harmless(section: str, text: str) -> None:
    try:
        made = executed(text)
    except QueryRefused as problem:
        assert problem.detail.startswith("sql")
        return
    assert section in ("the filter itself", "bombs") or text.startswith(NOT_THE_GUARDS), made
    # nothing but the tenant's views, each with the tenant's own rows
    without_texts = re.sub(r"'(?:[^']|'')*'", "''", made)
    for schema, view in RELATION.findall(without_texts):
        assert schema == "tenant"
        begin = without_texts.index(f'FROM "tenant"."{view}"')
        rest = without_texts[begin + len(f'FROM "tenant"."{view}"') :]
        if view != "metric":
            assert rest.startswith((' WHERE "tenant_id" = 7)', ' WHERE "sensor_id" = ANY(CAST('))


@pytest.mark.parametrize("text", QUERIES)
def test_an_analysts_query_is_taken(text: str) -> None:
    made = executed(text)
    assert "analytics" not in made.lower()
    assert made == executed(text), "the same again"


def test_a_refusal_says_where_and_why() -> None:
    with pytest.raises(QueryRefused) as caught:
        check("select 1,\n  pg_sleep(1)\nfrom reading")
    assert caught.value.extra["line"] == 2
    assert caught.value.extra["column"] == 3
    assert "pg_sleep" in caught.value.extra["reason"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select * from telemetry.reading", "the schema telemetry is not part of the contract"),
        ("select * from readings", "there is no view readings here; there are alert, latest"),
        ("select * from sensor for update", "a locking clause"),
        ("select 1 into x", "SELECT INTO"),
        ("select 1; select 2", "one statement is taken at a time"),
        ("", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("select 'x'::regclass", "a cast to an object identifier"),
        ("select 'x'::xml", "the type XML is not among those allowed"),
        ("with recursive a as (select 1) select * from a", "WITH RECURSIVE is not taken"),
        ("select $2", "there is no parameter $2; params has 0"),
        ("select :a", "write $1, $2"),
        ("select U&'\\0061'", "prefix U& are not taken"),
        ("select E'\\n'", "prefix E are not taken"),
        ("select $$a$$", "single quotes"),
        ("select 'abc", "a quote has no end"),
        ("select /* 1", "the comment has no end"),
        ("select interval '1' day", "interval '1 day'"),
        ("select 1_000", "a number must end"),
        ("(" * 500 + "select 1" + ")" * 500, "nested too deeply"),
        (f"select '{'x' * LONGEST}'", f"longer than {LONGEST}"),
        (f'select 1 as "{"x" * 64}"', "longer than 63 bytes"),
    ],
)
def test_reasons(text: str, said: str) -> None:
    assert said in refusal(text)


def test_a_name_of_with_hides_a_view_only_where_it_may() -> None:
    inner = executed("with reading as (select * from reading) select * from reading")
    assert inner.count('"tenant"."reading"') == 1
    later = executed("with a as (select * from sensor), sensor as (select 1) select * from a")
    assert later.count('"tenant"."sensor"') == 1
    elsewhere = executed(
        "select * from (with site as (select 1 as x) select * from site) as q, site"
    )
    assert elsewhere.count('"tenant"."site"') == 1


def test_names_are_folded_as_the_server_does() -> None:
    assert '"tenant"."sensor"' in executed("SELECT Sensor FROM ANALYTICS.SENSOR")
    assert "there is no view SENSOR" in refusal('select * from "SENSOR"')


def test_texts_stay_what_they_are() -> None:
    made = executed("select 'it''s \\ -- ; /* ', interval '1 day 2:30', 'Ä€'")
    assert "'it''s \\ -- ; /* '" in made
    assert "CAST('1 day 2:30' AS INTERVAL)" in made
    assert "'Ä€'" in made


def test_functions_keep_their_names() -> None:
    made = executed("select date_part('hour', ts), first(value, ts), max(value) from reading")
    assert "DATE_PART('hour', \"ts\")" in made
    assert 'FIRST("value", "ts")' in made


def test_the_rows_of_a_scope() -> None:
    many = Scope(tenant_id=7, sensor_ids=None)
    made = executed("select * from reading", scope=many)
    assert (
        '"sensor_id" IN (SELECT "sensor_id" FROM "tenant"."sensor" WHERE "tenant_id" = 7)' in made
    )
    none = executed("select * from reading", scope=Scope(tenant_id=7, sensor_ids=[]))
    assert "ANY(CAST('{}' AS BIGINT[]))" in none
    everybody = executed("select * from reading, sensor", scope=Scope(tenant_id=None))
    assert "WHERE" not in everybody


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a>-1", ["a", ">", "-", "1"]),
        ("a--b", ["a", "--b"]),
        ("/*a/*b*/c*/d", ["/*a/*b*/c*/", "d"]),
        ("'a''b'", ["'a''b'"]),
        ("x::int", ["x", "::", "int"]),
        ("a<=b", ["a", "<=", "b"]),
    ],
)
def test_the_servers_lexical_rules(text: str, wanted: list[str]) -> None:
    assert [token.text for token in tokens(text)] == wanted


@pytest.mark.parametrize("text", ["a @> b", "a || - b ||- c", "\x00", "{", "\\", "''' ", "1abc"])
def test_what_has_no_reading(text: str) -> None:
    with pytest.raises(LexicalError):
        list(tokens(text))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("select corr(distinct value, quality) from reading", 'CORR(DISTINCT "value", "quality")'),
        ("select string_agg(distinct sensor, ',' order by sensor) from sensor", "DISTINCT"),
        ("select a isnull from (select 1 as a) as x", '"a" IS NULL'),
        ("select 2 ^ 3, .5, 1.50, 1e3", "POWER(2, 3), 0.5, 1.50, 1e3"),
        ("select count(*) from sensor group by site, rollup (region)", "ROLLUP"),
        ('select 1 as text, 2 as month, 3 as "Value"', '1 AS "text", 2 AS "month", 3 AS "Value"'),
    ],
)
def test_nothing_is_dropped_or_invented(text: str, kept: str) -> None:
    made = executed(text)
    assert kept in made
    assert "CASE" not in made
