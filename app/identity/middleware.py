"""Finds out who calls and whether they may, before any route's own code runs.

The key comes as `Authorization: Bearer hw_…`, from InfluxDB's clients as `Token hw_…`. Browsers can't set
headers on a WebSocket or an event stream, so the live routes alone also take it as the query parameter
`access_token`.
"""

from urllib.parse import parse_qs

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from app.errors import Unauthorized
from app.identity.key import demand
from app.identity.permission import ROUTES, Permission

LIVE = ("/api/v1/live", "/api/v1/live/sse")


def needed(method: str, path_template: str) -> Permission:
    """The permission a route needs. Raises KeyError for one that ROUTES does not list."""
    return ROUTES[("GET" if method == "HEAD" else method), path_template]


class KeyMiddleware(ASGIMiddleware):
    """Puts the Principal into `scope["user"]`, or raises Unauthorized or Forbidden."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Authenticate and authorise one connection."""
        template = scope.get("path_template") or ""
        method = scope.get("method", "GET")
        is_open = method == "OPTIONS"
        permission = Permission.PUBLIC if is_open else needed(str(method), template)
        if permission is not Permission.PUBLIC:
            await authorise(scope, permission)
        await next_app(scope, receive, send)


async def authorise(scope: Scope, permission: Permission) -> None:
    """Put the Principal into `scope["user"]`. Raises Unauthorized, Forbidden."""
    key = _bearer(scope) or (_query_token(scope) if scope["path_template"] in LIVE else None)
    if key is None:
        raise Unauthorized(
            "Send the key as `Authorization: Bearer hw_…`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    principal = await scope["app"].state.services.keys.principal(key)
    demand(principal, permission)
    scope["user"] = principal


def _bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() in ("bearer", "token") and token.strip():
                return str(token.strip())
    return None


def _query_token(scope: Scope) -> str | None:
    values = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("access_token")
    return values[0] if values else None
