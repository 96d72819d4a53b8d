"""GET /api/sensors/historical: one sensor's UTC day, whole, from wherever it is.

JSON and CSV are streamed page by page; Parquet is written to a temporary file first, because its
directory stands at its end. The first page is read before the answer begins, so whatever refuses does so
with its own status.
"""

import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from litestar import Request, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from app.archive.read import readings_anywhere
from app.db.pool import Connection
from app.errors import BadRequest, NotAcceptable
from app.read.lookup import sensor_ids
from app.read.parameter import Tenant, known_parameters, tenant_scope, wants_fresh
from app.read.series import RawRow, Selection
from app.services import Services

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
OFFERED = [JSON, CSV, PARQUET]
PAGE_ROWS = 10_000
PIECE_BYTES = 1 << 18

SCHEMA = pa.schema(
    [
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("sensor_id", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("unit", pa.string()),
        ("quality", pa.int16()),
    ]
)


class DayReading(msgspec.Struct, frozen=True):
    """One reading of the day."""

    timestamp: datetime
    metric: str
    value: float
    unit: str
    quality: int
    """QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing."""


class Day(msgspec.Struct, frozen=True):
    """One sensor's day."""

    sensor_id: str
    date: date
    readings: list[DayReading]


def day_of(text: str) -> datetime:
    """The begin of a UTC day. Raises BadRequest."""
    try:
        found = date.fromisoformat(text)
        if len(text) != 10:
            raise ValueError(text)
        begin = datetime(found.year, found.month, found.day, tzinfo=UTC)
        return begin + timedelta(days=1) - timedelta(days=1)  # a day whose end can be told
    except (ValueError, OverflowError):
        raise BadRequest(f"date: {text[:40]!r} is no day; send it as in 2026-03-01.") from None


@get(
    "/api/sensors/historical",
    guards=[known_parameters],
    tags=["older design"],
    summary="One sensor's day",
    responses={
        200: ResponseSpec(
            Day, description="JSON; also CSV or Parquet by Accept.", generate_examples=False
        )
    },
)
async def get_sensors_historical(
    request: Request[Any, Any, Any],
    *,
    sensor_id: Annotated[str, QueryParameter(name="sensor_id", description="The sensor's uid.")],
    day: Annotated[str, QueryParameter(name="date", description="UTC day, as in 2026-03-01.")],
    tenant: Tenant = None,
) -> Stream:
    """Every reading of a UTC day in order of time and metric, however long ago that is."""
    services: Services = request.app.state.services
    media_type = _negotiate(request)
    begin = day_of(day)
    is_fresh = wants_fresh(request)

    async def resolve(connection: Connection) -> Selection:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        return Selection(
            tenant_id=tenant_id,
            sensor_ids=await sensor_ids(connection, tenant_id, [sensor_id]),
            site_ids=None,
            metric_ids=None,
        )

    selection = await services.reads.run(resolve, is_fresh=is_fresh)
    pages = _pages(services, selection, begin, is_fresh=is_fresh)
    first = await anext(pages)
    name = f"{begin:%Y-%m-%d}"
    if media_type == JSON:
        body = _json(first, pages, sensor_id, begin)
    elif media_type == CSV:
        body = _csv(first, pages)
    else:
        body = _parquet(first, pages)
    suffix = {JSON: "json", CSV: "csv", PARQUET: "parquet"}[media_type]
    return Stream(
        body,
        media_type=media_type,
        headers={"Content-Disposition": f'inline; filename="{name}.{suffix}"'},
    )


def _negotiate(request: Request[Any, Any, Any]) -> str:
    accepted = request.headers.get("accept", "").strip()
    found = request.accept.best_match(OFFERED) if accepted else JSON
    if found is None:
        raise NotAcceptable(
            f"Accept: {accepted[:80]!r} is not offered; accept {', '.join(OFFERED)}."
        )
    return found


async def _pages(
    services: Services, selection: Selection, begin: datetime, *, is_fresh: bool
) -> AsyncIterator[list[RawRow]]:
    after = (begin, -1, -1)
    while True:
        rows = await readings_anywhere(
            services.reads,
            services.cold,
            selection=selection,
            after=after,
            to_ts=begin + timedelta(days=1),
            count=PAGE_ROWS,
            is_fresh=is_fresh,
        )
        yield rows
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1].key


async def _all(
    first: list[RawRow], pages: AsyncIterator[list[RawRow]]
) -> AsyncIterator[list[RawRow]]:
    yield first
    async for rows in pages:
        yield rows


async def _json(
    first: list[RawRow], pages: AsyncIterator[list[RawRow]], uid: str, begin: datetime
) -> AsyncIterator[bytes]:
    head = msgspec.json.encode(Day(uid, begin.date(), []))
    yield head[:-2]  # without the closing brackets
    separator = b""
    async for rows in _all(first, pages):
        if rows:
            encoded = msgspec.json.encode(
                [DayReading(r.ts, r.metric, r.value, r.unit, r.quality) for r in rows]
            )
            yield separator + encoded[1:-1]
            separator = b","
    yield head[-2:]


async def _csv(first: list[RawRow], pages: AsyncIterator[list[RawRow]]) -> AsyncIterator[bytes]:
    yield b"timestamp,sensor_id,metric,value,unit,quality\r\n"
    async for rows in _all(first, pages):
        yield "".join(
            f"{r.ts.astimezone(UTC).isoformat().replace('+00:00', 'Z')},{_quoted(r.sensor)},"
            f"{r.metric},{r.value!r},{_quoted(r.unit)},{r.quality}\r\n"
            for r in rows
        ).encode()


def _quoted(text: str) -> str:
    """A cell of RFC 4180."""
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


async def _parquet(first: list[RawRow], pages: AsyncIterator[list[RawRow]]) -> AsyncIterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="headwater-day-") as folder:
        path = Path(folder) / "day.parquet"
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            async for rows in _all(first, pages):
                columns = [
                    [r.ts for r in rows],
                    [r.sensor for r in rows],
                    [r.metric for r in rows],
                    [r.value for r in rows],
                    [r.unit for r in rows],
                    [r.quality for r in rows],
                ]
                writer.write_table(pa.table(columns, schema=SCHEMA))
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
