"""The API's description: what Litestar finds by itself, and what only we know.

`complete` adds to every operation who may call it (from app/identity/permission.py, the only place
where that stands) and the problems it answers with, and describes bodies that are decoded by hand.
"""

import copy
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, License, SecurityScheme, Tag

from app.docs import ingest, sql
from app.identity.permission import ROLES, ROUTES, Permission

SPEC = "openapi.json"
SCHEME = "key"
PROBLEM = "application/problem+json"
METHODS = ("get", "put", "post", "delete")
BODIES = ingest.BODIES | sql.BODIES

DESCRIPTION = """\
Water-quality telemetry: readings in, alerts out.

**Authorize** with an API key (`hw_…`, made by `headwater key create`); its role decides what it may do.
Errors are [RFC 9457 problems](/problems): `detail` names the field and the remedy.

Live alerts also come over a WebSocket at `/api/v1/live`, with the same parameters and messages as
`/api/v1/live/sse`. Browsers, which can't set headers there, send the key as `?access_token=hw_…`.
A refused connection is closed with 4000 + status (4401, 4403, …), a reader that is too slow with 1013.
"""

TAGS = [
    Tag(name="ingest", description="Send readings."),
    Tag(name="readings", description="Get readings, rollups and newest values."),
    Tag(name="catalogue", description="Sensors, sites, metrics and units."),
    Tag(name="alerts", description="See alerts and decide on them."),
    Tag(name="thresholds", description="The limits that alerts come from."),
    Tag(name="live", description="Alert events as they happen."),
    Tag(name="older design", description="Simple forms that older clients use."),
    Tag(name="about", description="The platform itself."),
]

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457; `type` is a page of this API.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["/problems/not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and what to do."},
        "instance": {"type": "string", "description": "The path that was asked for."},
    },
    "additionalProperties": True,
}

STREAMED = {
    "application/x-ndjson": {"schema": {"type": "string", "description": "One row a line."}},
    "text/csv": {"schema": {"type": "string", "description": "RFC 4180 with a header line."}},
}

EXAMPLES = {
    "Decision": {"note": {"value": {"note": "Crew is on its way."}}},
    "ThresholdInput": {
        "tenant": {
            "summary": "For the whole tenant",
            "value": {"metric": "ph", "severity": "critical", "side": "high", "limit": 9.0},
        },
        "site": {
            "summary": "For a site, in another unit",
            "value": {
                "metric": "temperature",
                "severity": "warning",
                "side": "high",
                "limit": 77,
                "unit": "degF",
                "hysteresis": 1,
                "min_duration_seconds": 600,
                "site": "intake",
            },
        },
    },
}

PROBLEMS = {
    "400": "A parameter or the body is wrong; `detail` names the field.",
    "401": "No valid key.",
    "403": "The key's role lacks the permission.",
    "default": "Any other problem; /problems lists them.",
}


def package_version() -> str:
    """The installed version; "0" in a tree that was never installed."""
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "0"


def config(**more: Any) -> OpenAPIConfig:
    """Litestar's part."""
    return OpenAPIConfig(
        title="Headwater",
        version=package_version(),
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        tags=TAGS,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                SCHEME: SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="hw_<prefix>_<secret>",
                    description="An API key, shown once by `headwater key create`.",
                )
            }
        ),
        **more,
    )


def complete(found: dict[str, Any]) -> dict[str, Any]:
    """The description with everything in it; `found` stays as it is."""
    spec = copy.deepcopy(found)
    spec["components"].setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    permissions = {
        (method.lower(), path): permission for (method, path), permission in ROUTES.items()
    }
    for path, item in spec["paths"].items():
        for method in METHODS:
            if method in item:
                _complete_operation(item[method], permissions[method, path])
                item[method].update(copy.deepcopy(BODIES.get((method, path), {})))
                item[method]["responses"] |= _problems(permissions[method, path])
                if (method, path) == ("get", "/api/v1/readings"):
                    item[method]["responses"]["200"]["content"] |= STREAMED
    return spec


def _complete_operation(operation: dict[str, Any], permission: Permission) -> None:
    for parameter in operation.get("parameters", ()):
        # "may be left out" is said by required: false; a query has no null
        parameter["schema"] = _without_null(parameter["schema"])
    body = operation.get("requestBody")
    if body:
        for media in body["content"].values():
            schema = _without_null(media["schema"])
            body["required"] = schema == media["schema"]
            media["schema"] = schema
            media["examples"] = EXAMPLES.get(schema.get("$ref", "").rpartition("/")[2], {})
    if permission is Permission.PUBLIC:
        operation["security"] = []
        return
    roles = [name for name, permissions in ROLES.items() if permission in permissions]
    operation["security"] = [{SCHEME: []}]
    operation["x-permission"] = permission.value
    operation["description"] = (
        f"{operation.get('description', '')}\n\nPermission `{permission.value}`: {', '.join(roles)}."
    ).strip()


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("oneOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "oneOf"}
    return {**rest, **kinds[0]}


def _problems(permission: Permission) -> dict[str, Any]:
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": text, "content": content}
        for status, text in PROBLEMS.items()
        if permission is not Permission.PUBLIC or status not in ("401", "403")
    }
