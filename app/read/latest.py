"""GET /api/v1/latest, and the older design's GET /api/sensors/latest.

A client reads its own writes here: what this process has committed is waited for. With a replica
that takes `Cache-Control: no-cache`.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter
from psycopg import AsyncConnection
from psycopg.rows import class_row

from app.db.pool import Connection
from app.db.queries import queries
from app.errors import NotFound
from app.read.away import naming_sensors
from app.read.lookup import selected
from app.read.parameter import (
    Cursor,
    Metrics,
    Sensors,
    Sites,
    Tenant,
    known_parameters,
    pack,
    tenant_scope,
    unpack,
    wants_fresh,
    words,
)
from app.read.series import Selection
from app.services import Services

SQL = queries("read")

# the older design's names, where they are not the metric's code
FLAT_NAMES = {"ph": "pH", "temperature": "temp"}


class LatestRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest reading of one sensor's one metric."""

    sensor: str
    sensor_id: int
    site: str | None
    metric: str
    metric_id: int
    ts: datetime
    value: float
    unit: str
    quality: int


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest reading of one sensor's one metric."""

    sensor: str
    site: str | None
    metric: str
    ts: datetime
    value: float
    unit: str
    quality: int


class LatestPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest readings, one for each sensor and metric."""

    latest: list[Latest]
    next_cursor: str | None


async def latest_page(
    connection: AsyncConnection,
    *,
    selection: Selection,
    after_sensor_id: int | None,
    after_metric_id: int | None,
    count: int,
) -> list[LatestRow]:
    """Newest readings after a key."""
    async with connection.cursor(row_factory=class_row(LatestRow)) as cursor:
        args = msgspec.structs.asdict(selection) | {
            "after_sensor_id": after_sensor_id,
            "after_metric_id": after_metric_id,
            "count": count,
        }
        await cursor.execute(SQL["latest_page"], args, prepare=False)
        return await cursor.fetchall()


@get("/api/v1/latest", guards=[known_parameters], tags=["readings"], summary="Newest readings")
async def get_latest(
    request: Request[Any, Any, Any],
    *,
    sensor: Sensors = None,
    site: Sites = None,
    metric: Metrics = None,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=100_000, description="Most rows.")
    ] = 10_000,
    cursor: Cursor = None,
    tenant: Tenant = None,
) -> LatestPage:
    """The newest reading of every sensor and metric, your own writes included."""
    services: Services = request.app.state.services
    after = unpack("latest", cursor, int, int) if cursor else (None, None)

    async def resolve(connection: Connection) -> Selection:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        return await selected(
            connection, tenant_id, sensors=words(sensor), sites=words(site), metrics=words(metric)
        )

    async def page(connection: Connection) -> list[LatestRow]:
        return await latest_page(
            connection,
            selection=selection,
            after_sensor_id=after[0],
            after_metric_id=after[1],
            count=limit + 1,
        )

    async with naming_sensors(services, request.user, tenant, words(sensor)):
        selection = await services.reads.run(resolve, is_fresh=wants_fresh(request))
        await services.writer.flush_latest(selection.sensor_ids)
        rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    is_more = len(rows) > limit
    del rows[limit:]
    return LatestPage(
        latest=[
            Latest(
                sensor=row.sensor,
                site=row.site,
                metric=row.metric,
                ts=row.ts,
                value=row.value,
                unit=row.unit,
                quality=row.quality,
            )
            for row in rows
        ],
        next_cursor=pack("latest", rows[-1].sensor_id, rows[-1].metric_id) if is_more else None,
    )


@get(
    "/api/sensors/latest",
    guards=[known_parameters],
    tags=["older design"],
    summary="Newest readings of one sensor, flat form",
)
async def get_sensors_latest(
    request: Request[Any, Any, Any],
    *,
    sensor_id: Annotated[str, QueryParameter(name="sensor_id", description="The sensor's uid.")],
    tenant: Tenant = None,
) -> dict[str, Any]:
    """One object: sensor_id, timestamp of the newest reading, and each metric's newest value."""
    services: Services = request.app.state.services

    async def resolve(connection: Connection) -> Selection:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        return await selected(connection, tenant_id, sensors=[sensor_id], sites=[], metrics=[])

    async def page(connection: Connection) -> list[LatestRow]:
        rows = await latest_page(
            connection,
            selection=selection,
            after_sensor_id=None,
            after_metric_id=None,
            count=1_000,
        )
        if not rows:
            raise NotFound(f"sensor_id: {sensor_id[:128]!r} has not sent a reading yet.")
        return rows

    async with naming_sensors(services, request.user, tenant, [sensor_id]):
        selection = await services.reads.run(resolve, is_fresh=wants_fresh(request))
        await services.writer.flush_latest(selection.sensor_ids)
        rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    values = {FLAT_NAMES.get(row.metric, row.metric): row.value for row in rows}
    return {"sensor_id": sensor_id, "timestamp": max(row.ts for row in rows), **values}
