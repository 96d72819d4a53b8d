"""GET /api/v1/readings: raw readings or rollups, as JSON in one piece, as NDJSON or CSV in a stream.

A stream is read from the database page by page, so a slow client never holds a connection; its end is
fixed beforehand, so the `Link` header can name the next page. A failure in the middle breaks the
connection: a client never takes half of an answer for the whole.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from app.db.pool import Connection
from app.errors import BadRequest
from app.read.away import naming_sensors
from app.read.format import (
    CSV,
    JSON,
    NDJSON,
    Bucket,
    Reading,
    Row,
    csv_header,
    csv_lines,
    ndjson,
    negotiate,
    public,
)
from app.read.lookup import selected
from app.read.parameter import (
    Cursor,
    From,
    Metrics,
    Sensors,
    Sites,
    Tenant,
    To,
    known_parameters,
    pack,
    span,
    tenant_scope,
    unpack,
    wants_fresh,
    words,
)
from app.read.question import PAGE_ROWS, Question, choose, fetch, floor, in_pages
from app.read.series import STEPS, Key, Selection, series_count
from app.services import Services

DEFAULT_LIMIT = 10_000
MAX_LIMIT = 100_000
GRID_CELLS = 1_000_000

Resolution = Annotated[
    Literal["auto", "raw", "1m", "1h", "1d"],
    QueryParameter(
        name="resolution",
        description="auto: raw up to a day, then the finest rollup with at most 2,000 points.",
    ),
]
Fill = Annotated[
    Literal["none", "null", "previous", "linear"],
    QueryParameter(name="fill", description="What empty buckets of a rollup get as `avg`."),
]
Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="Most rows.")]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What was really asked of the database, and how to go on."""

    resolution: str
    fill: str
    from_: datetime = msgspec.field(name="from")
    to: datetime
    count: int
    next_cursor: str | None
    """None: this was the last page."""


class RawPage(Page, frozen=True, kw_only=True):
    """Raw readings in order of time, sensor, metric."""

    readings: list[Reading]


class RollupPage(Page, frozen=True, kw_only=True):
    """Buckets of a rollup in order of time, sensor, metric."""

    readings: list[Bucket]


@get(
    "/api/v1/readings",
    guards=[known_parameters],
    tags=["readings"],
    summary="Readings, raw or rolled up",
    responses={
        200: ResponseSpec(
            RawPage | RollupPage,
            description="JSON; also NDJSON or CSV by Accept.",
            generate_examples=False,
        )
    },
)
async def get_readings(
    request: Request[Any, Any, Any],
    *,
    sensor: Sensors = None,
    metric: Metrics = None,
    site: Sites = None,
    start: From = None,
    end: To = None,
    resolution: Resolution = "auto",
    fill: Fill = "none",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    tenant: Tenant = None,
) -> Response[Any]:
    """Readings of [from, to) in order of time, sensor, metric; without `from` the last 24 hours."""
    services: Services = request.app.state.services
    media_type = negotiate(request)
    lower, upper = span(start, end, default=timedelta(days=1))
    used = choose(resolution, fill, upper - lower)
    if used != "raw":
        lower = floor(lower, used)
    after: Key = (lower, -1, -1)
    if cursor is not None:
        ts, sensor_id, metric_id = unpack("readings", cursor, datetime, int, int)
        after = max(after, (ts, sensor_id, metric_id))

    async def resolve(connection: Connection) -> Selection:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        selection = await selected(
            connection, tenant_id, sensors=words(sensor), sites=words(site), metrics=words(metric)
        )
        if fill != "none":
            # a series counts from its newest reading on, which is noted up to a second after it
            series = max(1, await series_count(connection, selection=selection))
            cells = series * -((lower - upper) // STEPS[used])
            if cells > GRID_CELLS:
                raise BadRequest(
                    f"fill: {cells} buckets are more than {GRID_CELLS}; "
                    "ask for fewer sensors, a shorter span or a coarser resolution."
                )
        return selection

    async with naming_sensors(services, request.user, tenant, words(sensor)):
        question = Question(
            selection=await services.reads.run(resolve, is_fresh=wants_fresh(request)),
            resolution=used,
            fill=fill,
            from_ts=lower,
            to_ts=upper,
            limit=limit,
            after=after,
            is_fresh=wants_fresh(request),
        )
        return await answer(request, services, question, media_type)


async def answer(
    request: Request[Any, Any, Any], services: Services, question: Question, media_type: str
) -> Response[Any]:
    """The page in the format that was asked for."""
    limit = question.limit
    # an answer of several pages is not kept in memory; filling computes all of it anyway
    if media_type == JSON or limit <= PAGE_ROWS or question.is_filled:
        rows = await fetch(services, question, question.after, limit + 1)
        last = rows[limit - 1].key if len(rows) > limit else None
        del rows[limit:]
        pages = _one(rows)
    else:
        border = await fetch(services, question, question.after, 2, skip=limit - 1)
        last = border[0].key if len(border) > 1 else None
        rows = []
        pages = in_pages(services, question, last)
    next_cursor = pack("readings", *last) if last else None
    if media_type == JSON:
        kind: Any = RawPage if question.is_raw else RollupPage
        page = kind(
            resolution=question.resolution,
            fill=question.fill,
            from_=question.from_ts,
            to=question.to_ts,
            count=len(rows),
            next_cursor=next_cursor,
            readings=[public(row) for row in rows],
        )
        return Response(msgspec.json.encode(page), media_type=JSON)
    headers = {"Headwater-Resolution": question.resolution}
    if next_cursor:
        query = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
        query.append(("cursor", next_cursor))
        headers["Headwater-Next-Cursor"] = next_cursor
        headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return Stream(
        _encoded(pages, media_type, is_raw=question.is_raw),
        media_type=media_type,
        headers=headers,
    )


async def _one(rows: list[Row]) -> AsyncIterator[list[Row]]:
    yield rows


async def _encoded(
    pages: AsyncIterator[list[Row]], media_type: str, *, is_raw: bool
) -> AsyncIterator[bytes]:
    if media_type == CSV:
        yield csv_header(is_raw=is_raw)
    encode = ndjson if media_type == NDJSON else csv_lines
    async for rows in pages:
        if rows:
            yield encode(rows)
