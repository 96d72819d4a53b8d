"""From exceptions to problem+json: ours, Litestar's and the database's.

Nothing a client sends may end in a 500; what does is a bug and is logged with its trace.
"""

import msgspec
import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from psycopg_pool import PoolTimeout

from app import errors
from app.db.away import node_away
from app.db.moving import DETAIL, is_moving

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

# Litestar's own refusals by status
BY_STATUS: dict[int, type[errors.Problem]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
}

# SQLSTATE -> what the client is told
BY_SQLSTATE: dict[str, type[errors.Problem]] = {
    "HW409": errors.Conflict,
}


def response(problem: errors.Problem, path: str) -> Response[bytes]:
    """The problem as a response."""
    return Response(
        content=msgspec.json.encode(problem.body(path)),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=({"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}) | problem.headers,
    )


def to_problem(exc: Exception) -> errors.Problem:
    """The problem that an exception means to the client."""
    if isinstance(exc, errors.Problem):
        return exc
    if isinstance(exc, ValidationException):
        return errors.BadRequest(_validation_detail(exc))
    if isinstance(exc, HTTPException):
        if isinstance(exc.__cause__, SerializationException):
            return errors.MalformedBody(f"The body is no JSON: {exc.detail}.")
        kind = BY_STATUS.get(exc.status_code)
        if kind is not None:
            return kind(str(exc.detail) or kind.title, headers=dict(exc.headers or {}))
    if isinstance(exc, RecursionError):
        return errors.MalformedBody("The body is nested too deeply.")
    away = node_away(exc)
    if away is not None:
        return errors.NodeUnavailable(
            f"Node {away[0]}:{away[1]} of the database can't be reached, and this needs it; what lies "
            "elsewhere is not affected. Try again.",
            headers={"Retry-After": "5"},
        )
    if is_moving(exc):
        return errors.Unavailable(DETAIL, headers={"Retry-After": "5"})
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return errors.Unavailable(
            "The query took too long; ask for a shorter span or a coarser rollup.",
            headers={"Retry-After": "5"},
        )
    # our own SQLSTATEs first: psycopg takes a class it does not know for an OperationalError
    if isinstance(exc, psycopg.Error):
        kind = BY_SQLSTATE.get(exc.sqlstate or "")
        if kind is not None:
            return kind(exc.diag.message_primary or kind.title)
    if isinstance(exc, PoolTimeout | psycopg.OperationalError | psycopg.InterfaceError):
        return errors.Unavailable(
            "The database can't be reached; try again.", headers={"Retry-After": "1"}
        )
    log.exception("unexpected_error", exc_info=exc)
    return errors.Problem("It is logged; nothing of this request was stored.")


def _validation_detail(exc: ValidationException) -> str:
    """Name the parameter and what is wrong with it."""
    if isinstance(exc.extra, list):
        parts = [
            f"{item.get('key', 'request')}: {item.get('message', 'is invalid')}"
            for item in exc.extra
            if isinstance(item, dict)
        ]
        if parts:
            return "; ".join(parts)
    return str(exc.detail)


def handle(request: Request, exc: Exception) -> Response[bytes]:  # type: ignore[type-arg]
    """Litestar's exception handler for everything."""
    return response(to_problem(exc), request.url.path)
