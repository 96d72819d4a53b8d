"""Which statements the relay looks at, and how it reads their texts."""

import pytest

from app.relay.statement import looked_at, spelled


@pytest.mark.parametrize(
    ("text", "is_seen"),
    [
        ("select * from reading", True),
        ('select * from "reading"', True),
        ("select * from tenant.READING", True),
        ("select 'reading'", False),
        ("select e'it\\'s' from reading", True),
        ("select e'\\' from reading'", False),
        ("select 1 -- reading", False),
        ("select /* /* */ reading */ 1", False),
        ("select /* reading", True),
        ("select $x$ reading $$ $x$", False),
        ("select * from reading_1h", False),
        ("explain select * from reading", False),
        ("do $$ begin perform 1 from reading; end $$", True),
    ],
)
def test_what_is_looked_at(text: str, is_seen: bool) -> None:
    assert (looked_at(text.encode()) is not None) == is_seen


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("ts > e'2026-03-01'", "ts >  '2026-03-01'"),
        (r"E'a\\b\'c''d\n\q'", "    'a\\b''c''d\nq'"),
        ("$$it's$$", " 'it''s'"),
        ("$x$a$$b$x$, $1", "    'a$$b', $1"),
        # as they were: numbers, a text that goes on, what is no text
        (r"e'\x41'", r"e'\x41'"),
        (r"e'\u0041'", r"e'\u0041'"),
        (r"e'\101'", r"e'\101'"),
        ("e'a'\n  -- more\n 'b'", "e'a'\n  -- more\n 'b'"),
        ("'e''x' \"e'x'\" /* e'x' */ -- $$x$$", "'e''x' \"e'x'\" /* e'x' */ -- $$x$$"),
        ("u&'x' a$b$c$b$", "u&'x' a$b$c$b$"),
    ],
)
def test_texts_in_plain_quotes(text: str, plain: str) -> None:
    assert spelled(text) == plain
