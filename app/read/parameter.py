"""Query parameters that many routes share: lists, times, cursors, the tenant.

Whatever can't be read is refused with the parameter's name and the remedy; nothing is ignored, because
a filter that silently does nothing shows the wrong data.
"""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter
from psycopg import AsyncConnection

from app.epoch import micros, moment_of
from app.errors import BadRequest, NotFound
from app.identity.permission import Principal
from app.ingest.times import parse_times
from app.read.lookup import tenant_id_by_slug

ALWAYS_KNOWN = frozenset({"access_token"})
NO_PARAMETERS = frozenset({"request", "socket", "data"})

Sensors = Annotated[
    list[str] | None,
    QueryParameter(name="sensor", description="Sensor uids; repeat it or separate by commas."),
]
Sites = Annotated[
    list[str] | None,
    QueryParameter(name="site", description="Site codes; repeat it or separate by commas."),
]
Metrics = Annotated[
    list[str] | None,
    QueryParameter(
        name="metric",
        description="Metric codes or aliases (ph, temp, 00400); repeat it or separate by commas.",
    ),
]
Regions = Annotated[
    list[str] | None,
    QueryParameter(name="region", description="Regions; repeat it or separate by commas."),
]
Tenant = Annotated[
    str | None, QueryParameter(name="tenant", description="Tenant slug; only for super admins.")
]
From = Annotated[
    str | None,
    QueryParameter(name="from", description="Begin, inclusive: RFC 3339 or epoch seconds."),
]
To = Annotated[
    str | None, QueryParameter(name="to", description="End, exclusive: RFC 3339 or epoch seconds.")
]
Cursor = Annotated[
    str | None,
    QueryParameter(name="cursor", description="`next_cursor` of the previous page."),
]


def wants_fresh(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller takes nothing that is a moment old, and so nothing from a replica."""
    return "no-cache" in request.headers.get("cache-control", "")


def known_parameters(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """A guard: refuse a parameter that the route does not take, or a word that it does not know.

    Raises BadRequest that says what there is.
    """
    fields = {
        getattr(field.kwarg_definition, "name", None) or name: field
        for name, field in handler.parsed_fn_signature.parameters.items()
        if name not in NO_PARAMETERS and name not in connection.path_params
    }
    for name, value in connection.query_params.multi_items():
        if name in ALWAYS_KNOWN:
            continue
        if name not in fields:
            offered = ", ".join(sorted(fields)) or "none"
            raise BadRequest(f"{name[:60]}: there is no such parameter here; there are: {offered}.")
        if "\0" in value:
            raise BadRequest(f"{name}: must not hold a NUL character.")
        if get_origin(fields[name].annotation) is Literal:
            choices(name, [value], get_args(fields[name].annotation))


def words(values: Sequence[str] | None) -> list[str]:
    """The list behind a parameter that may be repeated or hold commas, each word once."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def choices(name: str, values: Sequence[str] | None, offered: Sequence[str]) -> list[str]:
    """Words that must be among the offered. Raises BadRequest."""
    found = words(values)
    for word in found:
        if word not in offered:
            raise BadRequest(f"{name}: {word[:60]!r} is none of {', '.join(offered)}.")
    return found


def moment(name: str, text: str) -> datetime:
    """RFC 3339 text or epoch seconds. Raises BadRequest."""
    value: object = text.strip()
    try:
        value = float(text)
    except ValueError:
        # a plus sign that was not escaped arrives as a space
        value = text.strip().replace(" ", "+") if "T" in text.upper() else text.strip()
    times, reasons = parse_times([value])
    if reasons:
        raise BadRequest(f"{name}: {reasons[0].partition('; add ?precision')[0]}.")
    try:
        return moment_of(int(times[0]))
    except OverflowError:
        raise BadRequest(f"{name}: {text[:40]!r} is out of range.") from None


def span(start: str | None, end: str | None, *, default: timedelta) -> tuple[datetime, datetime]:
    """From and to; without them the last `default` before now. Raises BadRequest."""
    upper = moment("to", end) if end is not None else datetime.now(UTC)
    try:
        lower = moment("from", start) if start is not None else upper - default
    except OverflowError:
        raise BadRequest(f"to: {end!r} is out of range.") from None
    if lower >= upper:
        raise BadRequest(f"from: {lower.isoformat()} is not before to ({upper.isoformat()}).")
    return lower, upper


def pack(kind: str, *key: int | str | datetime) -> str:
    """A cursor: opaque to clients, the last key of the page to us."""
    parts = [micros(part) if isinstance(part, datetime) else part for part in key]
    text = base64.urlsafe_b64encode(msgspec.json.encode([kind, *parts]))
    return text.rstrip(b"=").decode()


def unpack(kind: str, cursor: str, *types: type) -> list[Any]:
    """The key in a cursor of this kind. Raises BadRequest for anything we did not make."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        parts = msgspec.json.decode(raw, type=list[int | str])
        if parts[:1] != [kind] or len(parts) != len(types) + 1:
            raise ValueError("another list's cursor")
        return [_part(value, wanted) for value, wanted in zip(parts[1:], types, strict=True)]
    except (ValueError, TypeError, OverflowError, msgspec.DecodeError):
        raise BadRequest(
            "cursor: this is no cursor of this list; send next_cursor of its previous page."
        ) from None


def _part(value: int | str, wanted: type) -> Any:
    if wanted is datetime:
        return moment_of(int(value))
    if not isinstance(value, wanted) or (isinstance(value, int) and abs(value) >= 2**63):
        raise ValueError("wrong type")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("no text column holds that")
    return value


async def tenant_scope(
    connection: AsyncConnection, principal: Principal, slug: str | None
) -> int | None:
    """The tenant whose data the caller sees now; None: all. Raises NotFound."""
    if slug is None:
        return principal.tenant_id
    tenant_id = await tenant_id_by_slug(connection, slug=slug)
    if tenant_id is None or principal.tenant_id not in (None, tenant_id):
        raise NotFound(f"tenant: there is no tenant {slug[:60]!r} here.")
    return tenant_id
