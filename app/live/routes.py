"""GET /api/v1/live (WebSocket) and /api/v1/live/sse: alert events as they are committed.

The first message is `hello`: whatever is committed after it arrives. `since` (or `Last-Event-ID`)
replays from the table first; an event may then come twice, never not at all, so clients tell events
apart by `id`. Every 20 seconds without an event there is a `ping`.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import QueryParameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from app.errors import BadRequest
from app.identity.permission import Principal
from app.live.subscription import Delivery, Filter, TooSlowError
from app.read.lookup import site_ids
from app.read.parameter import Sites, Tenant, choices, known_parameters, tenant_scope, words
from app.services import Services

PING_SECONDS = 20.0
TOO_SLOW = 1013
LARGEST_ID = 2**63 - 1

Severities = Annotated[
    list[str] | None, QueryParameter(name="severity", description="warning, critical or both.")
]
Since = Annotated[
    int | None,
    QueryParameter(
        name="since",
        description="Replay what came after this event first (`resume` of the last one received).",
        ge=0,
        le=LARGEST_ID,
    ),
]


async def wanted(
    services: Services,
    principal: Principal,
    *,
    site: list[str] | None,
    severity: list[str] | None,
    tenant: str | None,
) -> Filter:
    """The filter behind the parameters. Raises BadRequest, NotFound, psycopg.Error."""
    severities = choices("severity", severity, ("warning", "critical"))
    sites = words(site)
    async with services.pool.connection() as connection:
        tenant_id = await tenant_scope(connection, principal, tenant)
        await site_ids(connection, tenant_id, sites)
    return Filter(tenant_id=tenant_id, sites=frozenset(sites), severities=frozenset(severities))


def _note(kind: str, **more: Any) -> str:
    return msgspec.json.encode({"kind": kind, "sent_at": datetime.now(UTC)} | more).decode()


async def deliveries(
    services: Services, chosen: Filter, since: int | None
) -> AsyncIterator[Delivery | str]:
    """`hello`, what the table has since then, then whatever comes; pings in between."""
    hub = services.hub
    async with hub.subscribe(chosen) as subscription:
        yield _note("hello", resume=hub.resume if since is None else since)
        told: set[int] = set()
        if since is not None:
            async for delivery in hub.past(chosen, since=since):
                told.add(delivery.outbox_id)
                yield delivery
        while True:
            live = await subscription.get(PING_SECONDS)
            if live is None:
                told.clear()
                yield _note("ping")
            elif live.outbox_id not in told:
                yield live


@websocket("/api/v1/live", guards=[known_parameters])
async def live(
    socket: WebSocket[Any, Any, Any],
    *,
    site: Sites = None,
    severity: Severities = None,
    tenant: Tenant = None,
    since: Since = None,
) -> None:
    """Push alert events over a WebSocket."""
    services: Services = socket.app.state.services
    chosen = await wanted(services, socket.user, site=site, severity=severity, tenant=tenant)
    await socket.accept()
    tasks = [
        asyncio.create_task(_send_all(socket, deliveries(services, chosen, since))),
        asyncio.create_task(_until_closed(socket)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        try:
            task.result()
        except TooSlowError:
            await socket.close(code=TOO_SLOW, reason="too slow")
        except WebSocketDisconnect:
            pass


async def _send_all(
    socket: WebSocket[Any, Any, Any], events: AsyncIterator[Delivery | str]
) -> None:
    async for event in events:
        await socket.send_text(event if isinstance(event, str) else event.text)


async def _until_closed(socket: WebSocket[Any, Any, Any]) -> None:
    """Whatever the client says is read and dropped, so that its close is seen."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return


@get(
    "/api/v1/live/sse",
    guards=[known_parameters],
    tags=["live"],
    summary="Alert events as an event stream",
    media_type="text/event-stream",
)
async def live_sse(
    request: Request[Any, Any, Any],
    *,
    site: Sites = None,
    severity: Severities = None,
    tenant: Tenant = None,
    since: Since = None,
) -> Stream:
    """Server-sent events: the same messages as the WebSocket's, one a `data:` line."""
    services: Services = request.app.state.services
    chosen = await wanted(services, request.user, site=site, severity=severity, tenant=tenant)
    last = request.headers.get("last-event-id", "").strip()
    if last:
        if not last.isdecimal() or int(last) > LARGEST_ID:
            raise BadRequest("Last-Event-ID: must be the id of an event of this stream.")
        since = int(last)
    return Stream(
        _lines(deliveries(services, chosen, since)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _lines(events: AsyncIterator[Delivery | str]) -> AsyncIterator[str]:
    try:
        async for event in events:
            if isinstance(event, Delivery):
                yield f"id: {event.resume}\ndata: {event.text}\n\n"
            elif event.startswith('{"kind":"ping"'):
                yield ": ping\n\n"
            else:
                yield f"data: {event}\n\n"
    except TooSlowError:
        yield f'event: error\ndata: {{"code":{TOO_SLOW},"reason":"too slow"}}\n\n'


ROUTES: list[ControllerRouterHandler] = [live, live_sse]
