"""POST /api/v1/readings and the older design's POST /api/sensors/data.

The body is decoded by hand, never through a typed parameter: that costs half of the speed. An answer
of 200 means that whatever it calls stored is committed.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from app.errors import (
    ClockWindow,
    EmptyBatch,
    Forbidden,
    NothingStored,
    PartlyStored,
    Problem,
    UnsupportedMediaType,
)
from app.identity.permission import Principal
from app.ingest.arrow import decode_arrow
from app.ingest.body import read_body
from app.ingest.columns import Columns
from app.ingest.csv_body import decode_csv
from app.ingest.decode import decode_json, decode_lines
from app.ingest.flat import decode_flat
from app.ingest.limits import Limits
from app.ingest.parquet import decode_parquet
from app.ingest.replay_guard import ReplayGuard
from app.ingest.resolve import CLOCK_WINDOW, resolve
from app.ingest.times import precision_of
from app.ingest.verdict import Code, Reply, reply
from app.ops.metrics import READINGS
from app.services import Services

Decoder = Callable[[bytes, Limits], Columns]

DECODERS: dict[str, Decoder] = {
    "application/json": decode_json,
    "application/x-ndjson": decode_lines,
    "application/jsonl": decode_lines,
    "text/csv": decode_csv,
    "application/vnd.apache.arrow.stream": decode_arrow,
    "application/vnd.apache.parquet": decode_parquet,
    "application/x-parquet": decode_parquet,
}

VERDICTS = ("stored", "duplicate", "conflict", "late", "rejected")
COUNTERS = {name: READINGS.labels(name) for name in (*VERDICTS, "unavailable")}


def decoder_for(content_type: str) -> Decoder:
    """The decoder of a Content-Type; none given means JSON. Raises UnsupportedMediaType."""
    name = content_type.partition(";")[0].strip().lower() or "application/json"
    # curl -d says this unless told otherwise
    if name == "application/x-www-form-urlencoded":
        name = "application/json"
    try:
        return DECODERS[name]
    except KeyError:
        raise UnsupportedMediaType(
            f"Content-Type: {name[:60]!r} is not supported; send one of {', '.join(DECODERS)}."
        ) from None


async def store(
    services: Services,
    principal: Principal,
    columns: Columns,
    *,
    is_minimal: bool,
    fields: dict[str, str] | None = None,
) -> Reply:
    """Resolve, take tokens, write, sum up. `fields` gets the RateLimit fields.

    Raises EmptyBatch, Forbidden, PartlyStored, RateLimited, Unavailable.
    """
    if principal.tenant_id is None:
        raise Forbidden("A super admin's key belongs to no tenant; write with a key of the tenant.")
    if not len(columns.index) and not columns.rejected:
        raise EmptyBatch("The body holds no reading; send at least one.")
    batch, is_late = await resolve(
        columns, services.catalogue, principal, services.settings, services.writer.bands.table
    )
    granted = await services.limiter.take(principal, columns)
    if fields is not None:
        fields.update(granted)
    codes = await services.writer.submit(batch)
    if is_late is not None:
        codes[(codes == Code.STORED) & is_late] = Code.LATE
    result = reply(codes, columns.index, columns.rejected, is_minimal=is_minimal)
    for verdict in VERDICTS:
        if number := getattr(result, verdict):
            COUNTERS[verdict].inc(number)
    if result.unavailable is not msgspec.UNSET:
        COUNTERS["unavailable"].inc(result.unavailable)
        raise partly_stored(result)
    return result


def partly_stored(result: Reply) -> Problem:
    """The problem that answers a request of which a part could not be written."""
    return PartlyStored(
        f"{result.unavailable} of {result.sent} readings could not be stored, because the server that "
        "holds their sensors, or must know of them, can't be reached; the others are. "
        "Send all of them again later: what is stored will be a duplicate.",
        headers={"Retry-After": "5"},
        **msgspec.to_builtins(result),
    )


def nothing_stored(result: Reply) -> Problem:
    """The problem that answers a request whose every reading was rejected."""
    assert isinstance(result.verdicts, list)
    first = result.verdicts[0]
    where = f"{first.field}: " if first.field else ""
    is_clock = all(verdict.type == CLOCK_WINDOW for verdict in result.verdicts)
    return (ClockWindow if is_clock else NothingStored)(
        f"All {result.sent} readings were rejected; the first: {where}{first.reason}.",
        **msgspec.to_builtins(result),
    )


@post("/api/v1/readings", status_code=200, tags=["ingest"], summary="Send readings")
async def post_readings(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
    """Store a batch: JSON, NDJSON, CSV, Arrow or Parquet; one verdict for each reading."""
    services: Services = request.app.state.services
    principal: Principal = request.user
    settings = services.settings
    headers = request.headers
    decode = decoder_for(headers.get("content-type", ""))
    precision = precision_of(request, "s")
    body = await read_body(request, settings.ingest_max_body_bytes)

    guard = None
    key = headers.get("idempotency-key")
    if key is not None:
        guard = ReplayGuard(services.pool, principal.api_key_id, key, precision.encode(), body)
        kept = await guard.recall()
        if kept is not None:
            return Response(kept.reply, status_code=kept.status, media_type="application/json")

    limits = Limits(settings.ingest_max_readings, precision, settings.ingest_max_body_bytes)
    columns = decode(body, limits)
    is_minimal = "return=minimal" in headers.get("prefer", "")
    fields: dict[str, str] = {}
    result = await store(services, principal, columns, is_minimal=is_minimal, fields=fields)
    if result.rejected == result.sent:
        raise nothing_stored(result)
    answer = msgspec.json.encode(result)
    if guard is not None:
        await guard.keep(200, answer)
    return Response(answer, media_type="application/json", headers=fields)


@post(
    "/api/sensors/data", status_code=200, tags=["older design"], summary="Send readings, flat form"
)
async def post_sensors_data(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
    """Store `{"sensor_id":"123","pH":7.2,"temp":15.4}` or a list of such."""
    services: Services = request.app.state.services
    settings = services.settings
    body = await read_body(request, settings.ingest_max_body_bytes)
    columns = decode_flat(body, Limits(settings.ingest_max_readings), time.time_ns() // 1000)
    fields: dict[str, str] = {}
    result = await store(services, request.user, columns, is_minimal=False, fields=fields)
    if result.rejected == result.sent:
        raise nothing_stored(result)
    answer = {
        "status": "success",
        "message": "Data received",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        **msgspec.to_builtins(result),
    }
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=fields)


ROUTES: list[ControllerRouterHandler] = [post_readings, post_sensors_data]
