"""The API's description is complete: every route, its parameters, permission, problems and examples."""

import json
import re
from typing import Any

import msgspec
import pytest

from app.asgi import create_app
from app.docs.openapi import complete
from app.docs.problems import REMEDY
from app.errors import Problem, all_problems
from app.identity.permission import ROUTES, Permission
from app.ingest.csv_body import decode_csv
from app.ingest.decode import decode_json, decode_lines
from app.ingest.flat import decode_flat
from app.ingest.limits import Limits
from app.ingest.line_protocol import decode_line_protocol
from app.settings import Settings

HIDDEN = re.compile(r"^/$|^/docs")
"""Pages, not the API."""
NOT_HTTP = {("GET", "/api/v1/live")}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return complete(create_app(Settings()).openapi_schema.to_schema())


def operations(spec: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in spec["paths"].items()
        for method, operation in item.items()
    }


def references(part: Any) -> set[str]:
    if isinstance(part, dict):
        found = {part["$ref"]} if "$ref" in part else set()
        return found.union(*(references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(references(value) for value in part))
    return set()


def test_every_route_is_described(spec: dict[str, Any]) -> None:
    wanted = {route for route in ROUTES if not HIDDEN.match(route[1])} - NOT_HTTP
    assert set(operations(spec)) == wanted


def test_every_operation_says_what_it_does_and_who_may(spec: dict[str, Any]) -> None:
    for route, operation in operations(spec).items():
        assert operation["summary"] and operation["tags"], route
        assert len(operation["description"]) > 20, route
        is_public = ROUTES[route] is Permission.PUBLIC
        assert operation["security"] == ([] if is_public else [{"key": []}]), route
        assert is_public or ROUTES[route].value in operation["description"], route
        problem = operation["responses"]["default"]["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert ("401" in operation["responses"]) is not is_public


def test_every_parameter_is_explained(spec: dict[str, Any]) -> None:
    for route, operation in operations(spec).items():
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] == "path" or parameter.get("description"), (route, parameter)
            assert '"type": "null"' not in json.dumps(parameter["schema"]), (route, parameter)


def test_references_resolve_and_nothing_is_elsewhere(spec: dict[str, Any]) -> None:
    for reference in references(spec):
        assert reference.startswith("#/components/schemas/")
        assert reference.rpartition("/")[2] in spec["components"]["schemas"]
    assert "http://" not in json.dumps(spec) and "https://" not in json.dumps(spec)


def test_authorize_offers_the_key(spec: dict[str, Any]) -> None:
    scheme = spec["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert spec["openapi"].startswith("3.1")


def test_examples_of_ingest_bodies_are_readings(spec: dict[str, Any]) -> None:
    content = spec["paths"]["/api/v1/readings"]["post"]["requestBody"]["content"]
    limits = Limits(100)
    for example in content["application/json"]["examples"].values():
        columns = decode_json(msgspec.json.encode(example["value"]), limits)
        assert len(columns.index) and not columns.rejected
    for example in content["application/x-ndjson"]["examples"].values():
        columns = decode_lines(example["value"].encode(), limits)
        assert len(columns.index) and not columns.rejected
    for example in content["text/csv"]["examples"].values():
        columns = decode_csv(example["value"].encode(), limits)
        assert len(columns.index) and not columns.rejected
    lines = spec["paths"]["/api/v2/write"]["post"]["requestBody"]["content"]
    for example in lines["text/plain"]["examples"].values():
        columns = decode_line_protocol(example["value"].encode(), Limits(9, "ns"), 0)
        assert len(columns.index) and not columns.rejected
    older = spec["paths"]["/api/sensors/data"]["post"]["requestBody"]["content"]
    for example in older["application/json"]["examples"].values():
        columns = decode_flat(msgspec.json.encode(example["value"]), limits, 0)
        assert len(columns.index) and not columns.rejected


@pytest.mark.parametrize("kind", all_problems())
def test_every_problem_type_has_a_remedy(kind: type[Problem]) -> None:
    assert kind.__doc__ and kind.slug in REMEDY


def test_no_remedy_without_a_problem_type() -> None:
    assert set(REMEDY) == {kind.slug for kind in all_problems()}
