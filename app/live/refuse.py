"""Problems on a WebSocket: accepted, then closed with 4000 + the HTTP status and the reason.

A handshake that is refused tells a browser nothing but "failed"; a close code it can read: 4401 no
valid key, 4403 the role lacks the permission, 4400 a filter is wrong, 4503 the database is away.
"""

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.problem import to_problem

REASON_BYTES = 123
"""A close frame holds 125 bytes, two of them the code."""
RAISED = "headwater_raised"


async def remember(exc: Exception, scope: Scope) -> None:
    """Litestar's after_exception hook: keeps what the handler raised, which it closes with 4500."""
    scope["state"][RAISED] = exc


class SocketProblems(ASGIMiddleware):
    """Outermost on WebSockets: what is raised inside becomes a close code."""

    scopes = (ScopeType.WEBSOCKET,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one connection."""
        is_accepted = False

        async def refuse(exc: Exception) -> None:
            problem = to_problem(exc)
            if not is_accepted:
                await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            reason = problem.detail.encode()[:REASON_BYTES].decode(errors="ignore")
            await send({"type": "websocket.close", "code": 4000 + problem.status, "reason": reason})

        async def translate(message: Message) -> None:
            nonlocal is_accepted
            raised = scope["state"].pop(RAISED, None)
            if message["type"] == "websocket.close" and raised is not None:
                await refuse(raised)
                return
            is_accepted = is_accepted or message["type"] == "websocket.accept"
            await send(message)

        try:
            await next_app(scope, receive, translate)
        except Exception as exc:
            await refuse(exc)
