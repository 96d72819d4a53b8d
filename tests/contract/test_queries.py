"""Every named statement fits the migrated schema, and its wrapper fits the statement.

A wrapper is the async function of the same name; its row is a Struct (or one column, returned bare). What
it really sends is recorded, so that a parameter nobody fills or nobody reads is found, too.
"""

import asyncio
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from fix_database import Database, Server
from psycopg import AsyncConnection, AsyncCursor, postgres

import app
import jobs
from app.archive.lake import Lake
from app.archive.place import Place
from app.db.queries import queries
from app.paths import QUERIES
from app.read.series import Key, Selection

TOPICS = sorted(file.stem for file in QUERIES.glob("*.sql"))
STATEMENTS = [(topic, name) for topic in TOPICS for name in queries(topic)]
# topics that only a coordinator understands
SPREAD = ("cluster",)
# topics whose every statement has a typed wrapper
WRAPPED = ("alert", "docs", "live", "ops", "read")
PLACEHOLDER = re.compile(r"%\((\w+)\)s")

PYTHON: dict[str, tuple[type, ...]] = {
    "int2": (int,),
    "int4": (int,),
    "int8": (int,),
    "float8": (float,),
    "bool": (bool,),
    "text": (str,),
    "name": (str,),
    "bytea": (bytes,),
    "timestamptz": (datetime,),
    "interval": (timedelta,),
    "text[]": (list,),
    "int8[]": (list,),
    "int2[]": (list,),
    "jsonb": (list, dict),
}


def numbered(statement: str) -> tuple[str, list[str]]:
    """With $1 instead of %(name)s, as the server wants it; the names in order."""
    names = list(dict.fromkeys(PLACEHOLDER.findall(statement)))
    text = PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", statement)
    return text.replace("%%", "%"), names


VOID = 2278
"""What a function returns that returns nothing; the driver has no name for it."""


def type_name(oid: int) -> str:
    if oid == VOID:
        return "void"
    known = postgres.types.get(oid)
    assert known is not None, f"type {oid} has no Python type in this test"
    return known.name if known.oid == oid else f"{known.name}[]"


@pytest.fixture(scope="module")
def connection(
    pg_server: Server, pg_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[psycopg.Connection]:
    database = Database(pg_server, pg_server.create(pg_template))
    with psycopg.connect(database.url(), autocommit=True) as made:
        # what the writer makes for itself
        for name, statement in queries("ingest").items():
            if statement.startswith("create temporary"):
                made.execute(statement.replace("on commit drop", ""))  # type: ignore[arg-type]
                assert name
        # what DuckDB makes for itself
        place = Place(folder=str(tmp_path_factory.mktemp("lake")))
        Lake(place, database.url(), is_writer=True).close()
        yield made
    pg_server.drop(database.name)


def described(connection: psycopg.Connection, topic: str, name: str) -> dict[str, str]:
    """Column -> type of a statement. Fails where the schema does not have what it names."""
    text, _ = numbered(queries(topic)[name])
    result = connection.pgconn.prepare(b"", text.encode())
    assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.error_message.decode()
    found = connection.pgconn.describe_prepared(b"")
    return {
        (found.fname(number) or b"").decode(): type_name(found.ftype(number))
        for number in range(found.nfields)
    }


def wrappers() -> dict[str, Callable[..., Any]]:
    """Functions that have the name of a statement."""
    names = {name for _, name in STATEMENTS}
    found: dict[str, Callable[..., Any]] = {}
    for package in (app, jobs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            loaded = importlib.import_module(module.name)
            for name, function in inspect.getmembers(loaded, inspect.iscoroutinefunction):
                if name in names and function.__module__ == module.name:
                    assert found.setdefault(name, function) is function, f"{name} stands twice"
    return found


WRAPPERS = wrappers()


def struct_of(annotation: Any) -> type[msgspec.Struct] | None:
    """The Struct in list[Struct], Struct | None or Struct."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
    return None


def python_types(annotation: Any) -> set[type]:
    """The types behind X, X | None, Annotated[X, …], list[X]."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return python_types(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(annotation) for kind in python_types(part)}
    return {origin or annotation}


def made_up(annotation: Any) -> Any:
    """A value of a parameter's type."""
    if annotation == Key:
        return datetime(2026, 1, 1, tzinfo=UTC), -1, -1
    if annotation is Selection:
        return Selection(tenant_id=1, sensor_ids=None, site_ids=None, metric_ids=None)
    kinds = python_types(annotation) - {types.NoneType}
    values: dict[type, Any] = {
        int: 1,
        float: 1.0,
        str: "1h",
        bool: True,
        bytes: b"",
        list: [],
        datetime: datetime(2026, 1, 1, tzinfo=UTC),
        timedelta: timedelta(hours=1),
    }
    return values[kinds.pop()]


class Sent(AsyncCursor[Any]):
    """Notes what is sent, and sends nothing."""

    seen: typing.ClassVar[list[tuple[str, set[str]]]] = []

    async def execute(self, query: Any, params: Any = None, **_: Any) -> Any:
        Sent.seen.append((query, set(params or ())))
        return self

    async def fetchall(self) -> Any:
        return []

    async def fetchone(self) -> Any:
        return None


def recorded(url: str, function: Callable[..., Any]) -> tuple[str, set[str]]:
    """The statement and the names of the parameters that a wrapper sends."""
    hints = typing.get_type_hints(function, include_extras=True)
    keywords = {
        name: made_up(hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "connection" and parameter.kind is parameter.KEYWORD_ONLY
    }

    async def run() -> None:
        async with await AsyncConnection.connect(url, autocommit=True, cursor_factory=Sent) as line:
            await function(line, **keywords)

    Sent.seen.clear()
    asyncio.run(run())
    (seen,) = Sent.seen
    return seen


@pytest.mark.parametrize(("topic", "name"), STATEMENTS)
def test_statement_fits_the_schema(
    connection: psycopg.Connection, pg_server: Server, topic: str, name: str
) -> None:
    if topic in SPREAD and not pg_server.is_distributed:
        pytest.skip("needs a coordinator: --distributed")
    described(connection, topic, name)


@pytest.mark.parametrize(
    ("topic", "name"), [(topic, name) for topic, name in STATEMENTS if topic in WRAPPED]
)
def test_wrapper_fits_the_statement(
    connection: psycopg.Connection, pg_server: Server, topic: str, name: str
) -> None:
    function = WRAPPERS.get(name)
    assert function is not None, f"{topic}.{name} has no wrapper"
    columns = described(connection, topic, name)
    row = struct_of(typing.get_type_hints(function)["return"])
    if row is None:
        assert len(columns) == 1, f"{name} returns {list(columns)} without a Struct"
    else:
        assert set(columns) == set(row.__struct_fields__)
        for field in msgspec.structs.fields(row):
            known = PYTHON[columns[field.name]]
            assert python_types(field.type) & set(known), f"{name}.{field.name}: {field.type}"
    statement, arguments = recorded(pg_server.url("postgres"), function)
    assert statement == queries(topic)[name]
    assert arguments == set(PLACEHOLDER.findall(statement))
