"""POST /api/v1/sql.

A client that hangs up has its query cancelled: while it runs, the connection is listened to.
"""

import asyncio
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from app.errors import BadRequest, MalformedBody, NotAcceptable, UnsupportedMediaType
from app.identity.permission import Principal
from app.ingest.body import read_body
from app.query.answer import ENCODER, FORMS, JSON, Answer
from app.query.hot import Parameter
from app.query.run import Question
from app.read.parameter import tenant_scope
from app.services import Services

LARGEST_BODY = 262_144
DEFAULT_LIMIT = 10_000
MOST_PARAMETERS = 100


class SqlBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body; app/docs/sql.py describes it."""

    sql: str
    params: list[Parameter] = []
    limit: int | None = None
    tenant: str | None = None


@post("/api/v1/sql", status_code=200, tags=["readings"], summary="One SELECT over the contract")
async def post_sql(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Run one SELECT over the contract's views, as JSON, CSV or an Arrow stream."""
    services: Services = request.app.state.services
    principal: Principal = request.user
    media_type = negotiate(request)
    body = await _body(request)
    most = services.settings.sql_max_rows
    limit = min(DEFAULT_LIMIT, most) if body.limit is None else body.limit
    if not 1 <= limit <= most:
        raise BadRequest(f"limit: must be from 1 to {most}.")
    if len(body.params) > MOST_PARAMETERS:
        raise BadRequest(f"params: at most {MOST_PARAMETERS} are taken.")
    if "\0" in body.sql or any(isinstance(p, str) and "\0" in p for p in body.params):
        raise BadRequest("sql, params: must not hold a NUL character.")
    async with services.pool.connection() as connection:
        tenant_id = await tenant_scope(connection, principal, body.tenant)
    question = Question(sql=body.sql, parameters=body.params, limit=limit, tenant_id=tenant_id)
    answer = await _unless_gone(request, services, question)
    content = await asyncio.to_thread(FORMS[media_type], answer)
    return Response(content, media_type=media_type, headers=headers(answer))


def headers(answer: Answer) -> dict[str, str]:
    """What CSV and Arrow have no place for."""
    return {
        "Headwater-Engine": answer.engine,
        "Headwater-Scanned": ENCODER.encode(answer.scanned).decode(),
        "Headwater-Row-Count": str(answer.row_count),
        "Headwater-Truncated": "true" if answer.truncated else "false",
    }


def negotiate(request: Request[Any, Any, Any]) -> str:
    """The media type to answer with. Raises NotAcceptable."""
    accepted = request.headers.get("accept", "").strip()
    if not accepted:
        return JSON
    found = request.accept.best_match(list(FORMS))
    if found is None:
        raise NotAcceptable(f"Accept: {accepted[:80]!r} is not offered; accept {', '.join(FORMS)}.")
    return found


async def _body(request: Request[Any, Any, Any]) -> SqlBody:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # curl -d says the second unless told otherwise
    if content_type not in ("", "application/json", "application/x-www-form-urlencoded"):
        raise UnsupportedMediaType("Content-Type: send application/json.")
    raw = await read_body(request, LARGEST_BODY)
    try:
        return msgspec.json.decode(raw, type=SqlBody)
    except msgspec.ValidationError as exc:
        raise BadRequest(f"{exc}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedBody(f"The body is no JSON: {exc}.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


async def _unless_gone(
    request: Request[Any, Any, Any], services: Services, question: Question
) -> Answer:
    """The answer; a client that hangs up cancels it."""
    work = asyncio.ensure_future(services.desk.answer(question))
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
        return await work
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _gone(request: Request[Any, Any, Any]) -> None:
    """Returns once the client has hung up."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
        await asyncio.sleep(0)


ROUTES: list[ControllerRouterHandler] = [post_sql]
