"""Counts and times HTTP requests by method, route template and status."""

import time
from functools import cache

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from app.ops.metrics import HTTP_REQUESTS, HTTP_SECONDS

STARTED = "headwater_started"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Stopwatch(ASGIMiddleware):
    """Notes when a routed request began; outermost."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one request."""
        scope["state"][STARTED] = time.perf_counter()
        await next_app(scope, receive, send)


async def count_response(message: Message, scope: Scope) -> None:
    """Litestar's before_send hook: sees every answer, also those of paths that do not exist."""
    if message["type"] == "http.response.start" and scope["type"] == ScopeType.HTTP:
        count(scope, message["status"])


def count(scope: HTTPScope, status: int) -> None:
    """An answer begins."""
    # clients choose unknown paths and methods, so these get one label for all
    route = scope.get("path_template") or "unknown"
    method = scope["method"] if scope["method"] in METHODS else "other"
    _requests(method, route, status).inc()
    started = scope["state"].get(STARTED)
    if started is not None:
        _seconds(method, route).observe(time.perf_counter() - started)


# finding a metric's child costs more than counting in it
@cache
def _requests(method: str, route: str, status: int) -> Counter:
    return HTTP_REQUESTS.labels(method, route, status)


@cache
def _seconds(method: str, route: str) -> Histogram:
    return HTTP_SECONDS.labels(method, route)
