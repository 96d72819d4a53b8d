"""POST /api/v2/write as InfluxDB 2 has it, so that Telegraf's outputs.influxdb_v2 works unchanged.

The key (`Authorization: Token hw_…`) decides the tenant; `org` and `bucket` are taken and not looked at.
204 means that every reading of the body is stored. Otherwise the answer is Influx' own error object. When
it names lines, all other lines are stored: clients must not send the batch again, and Telegraf doesn't.
"""

import time

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from app.ingest.body import read_body
from app.ingest.limits import Limits
from app.ingest.line_protocol import decode_line_protocol
from app.ingest.resolve import CLOCK_WINDOW
from app.ingest.routes import store
from app.ingest.times import precision_of
from app.ingest.verdict import Reply, Verdict
from app.problem import to_problem
from app.services import Services

SHOWN = 100
"""Lines that an error names at most."""

CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    413: "request too large",
    415: "unsupported media type",
    422: "unprocessable entity",
    429: "too many requests",
    503: "unavailable",
}


class InfluxError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Influx' error object."""

    code: str
    message: str
    line: int | None = None
    """The first line refused, from 1."""


def failure(request: Request, exc: Exception) -> Response[bytes]:  # type: ignore[type-arg]
    """Our problems in Influx' words."""
    problem = to_problem(exc)
    error = InfluxError(CODES.get(problem.status, "internal error"), problem.detail)
    return _response(error, problem.status, problem.headers)


def partial_write(result: Reply, refused: list[Verdict]) -> Response[bytes]:
    """Some lines are refused, the others stored.

    400 as Influx says it of partial writes; 422, as it says of points beyond the retention period, where
    nothing but the clock window is to blame.
    """
    lines = [f"line {v.index}: {v.field or 'line'}: {v.reason}" for v in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"and {len(refused) - SHOWN} more")
    stored = result.stored + result.duplicate
    message = f"partial write: {stored} stored, {len(refused)} refused\n" + "\n".join(lines)
    status = 422 if all(verdict.type == CLOCK_WINDOW for verdict in refused) else 400
    return _response(InfluxError(CODES[status], message, refused[0].index), status, {})


def _response(error: InfluxError, status: int, headers: dict[str, str]) -> Response[bytes]:
    return Response(
        msgspec.json.encode(error),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


@post(
    "/api/v2/write",
    status_code=200,
    tags=["ingest"],
    summary="Send line protocol",
    exception_handlers={Exception: failure},
)
async def post_write(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
    """Store Influx line protocol, as Telegraf's outputs.influxdb_v2 sends it."""
    services: Services = request.app.state.services
    settings = services.settings
    precision = precision_of(request, "ns")
    body = await read_body(request, settings.ingest_max_body_bytes)
    limits = Limits(settings.ingest_max_readings, precision)
    columns = decode_line_protocol(body, limits, time.time_ns() // 1000)
    result = await store(services, request.user, columns, is_minimal=True)
    assert isinstance(result.verdicts, list)
    if result.verdicts:
        return partial_write(result, result.verdicts)
    return Response(b"", status_code=204)


ROUTES: list[ControllerRouterHandler] = [post_write]
