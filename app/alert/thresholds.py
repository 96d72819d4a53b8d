"""Thresholds: limits of a tenant, a site or a sensor; the most specific one wins.

They are stored in the metric's own unit, whatever unit they come in; the reply says so. The
platform's defaults belong to no tenant: everybody sees them, super admins change them.
"""

import math
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, put
from litestar.params import FromPath, JSONBody, QueryParameter
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from app.db.pool import Connection
from app.db.queries import queries
from app.errors import BadRequest, NotFound
from app.ingest.channel import normalise_unit
from app.read.lookup import MetricName, find_metrics, metric_ids, sensor_ids, site_ids
from app.read.parameter import (
    Cursor,
    Metrics,
    Sensors,
    Sites,
    Tenant,
    choices,
    known_parameters,
    pack,
    tenant_scope,
    unpack,
    wants_fresh,
    words,
)
from app.services import Services

SQL = queries("alert")
LARGEST_ID = 2**63 - 1
MAX_BODY_BYTES = 65_536
LONGEST_SECONDS = 366 * 86_400.0


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """One limit on one side at one severity."""

    threshold_id: int
    scope: str
    """sensor, site, tenant or platform: the most specific one wins."""
    tenant: str | None
    site: str | None
    sensor: str | None
    metric: str
    unit: str
    """Unit of limit and hysteresis: the one the metric is stored in."""
    severity: str
    side: str
    limit: float
    hysteresis: float
    """How far inside the limit a value must come back to be clear."""
    min_duration_seconds: float
    is_enabled: bool
    """False: switches a wider scope's limit off here."""
    title: str | None
    updated_at: datetime


class UnitRow(msgspec.Struct, frozen=True, kw_only=True):
    """How a sent unit becomes the stored one."""

    factor: float | None
    shift: float
    refusal: str | None


class ThresholdsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds in order of their identifier."""

    thresholds: list[Threshold]
    next_cursor: str | None


class ThresholdInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A threshold to set; one that exists for the same scope, metric, severity and side is replaced."""

    metric: str
    severity: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["warning", "critical"]})]
    side: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["low", "high"]})]
    limit: float
    unit: str | None = None
    """Unit of limit and hysteresis; default: the metric's own."""
    hysteresis: float = 0.0
    min_duration_seconds: float = 0.0
    is_enabled: bool = True
    title: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    site: str | None = None
    sensor: str | None = None


async def thresholds_page(
    connection: AsyncConnection,
    *,
    tenant_id: int | None,
    count: int,
    after_id: int = 0,
    threshold_id: int | None = None,
    site_ids: list[int] | None = None,
    sensor_ids: list[int] | None = None,
    metric_ids: list[int] | None = None,
) -> list[Threshold]:
    """Thresholds after a key."""
    args = {name: value for name, value in locals().items() if name != "connection"}
    async with connection.cursor(row_factory=class_row(Threshold)) as cursor:
        await cursor.execute(SQL["thresholds_page"], args, prepare=False)
        return await cursor.fetchall()


async def threshold_upsert(
    connection: AsyncConnection,
    *,
    tenant_id: int | None,
    site_id: int | None,
    sensor_id: int | None,
    metric_id: int,
    severity: str,
    side: str,
    limit_value: float,
    hysteresis: float,
    min_duration: timedelta,
    is_enabled: bool,
    title: str | None,
) -> int:
    """Set a threshold; its identifier."""
    args = {name: value for name, value in locals().items() if name != "connection"}
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["threshold_upsert"], args)
        return int(await cursor.fetchone() or 0)


async def threshold_delete(
    connection: AsyncConnection, *, threshold_id: int, tenant_id: int | None
) -> bool:
    """Remove a threshold; False where the tenant has no such threshold."""
    args = {"threshold_id": threshold_id, "tenant_id": tenant_id}
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["threshold_delete"], args)
        return await cursor.fetchone() is not None


async def unit_of(connection: AsyncConnection, *, metric_id: int, unit: str) -> UnitRow | None:
    """How values in a normalised unit become the stored ones."""
    async with connection.cursor(row_factory=class_row(UnitRow)) as cursor:
        await cursor.execute(SQL["unit_of"], {"metric_id": metric_id, "unit": unit})
        return await cursor.fetchone()


@get("/api/v1/thresholds", guards=[known_parameters], tags=["thresholds"], summary="Thresholds")
async def get_thresholds(
    request: Request[Any, Any, Any],
    *,
    site: Sites = None,
    sensor: Sensors = None,
    metric: Metrics = None,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=10_000, description="Most rows.")
    ] = 1_000,
    cursor: Cursor = None,
    tenant: Tenant = None,
) -> ThresholdsPage:
    """The tenant's thresholds and the platform's defaults."""
    services: Services = request.app.state.services
    (after_id,) = unpack("thresholds", cursor, int) if cursor else (0,)

    async def page(connection: Connection) -> list[Threshold]:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        return await thresholds_page(
            connection,
            tenant_id=tenant_id,
            site_ids=await site_ids(connection, tenant_id, words(site)),
            sensor_ids=await sensor_ids(connection, tenant_id, words(sensor)),
            metric_ids=await metric_ids(connection, words(metric)),
            after_id=after_id,
            count=limit + 1,
        )

    rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    is_more = len(rows) > limit
    del rows[limit:]
    return ThresholdsPage(
        thresholds=rows,
        next_cursor=pack("thresholds", rows[-1].threshold_id) if is_more else None,
    )


@put(
    "/api/v1/thresholds",
    request_max_body_size=MAX_BODY_BYTES,
    guards=[known_parameters],
    tags=["thresholds"],
    summary="Set a threshold",
)
async def put_threshold(
    request: Request[Any, Any, Any], data: JSONBody[ThresholdInput], tenant: Tenant = None
) -> Threshold:
    """Set a limit for the tenant, a `site` or a `sensor`; later readings are judged by it."""
    services: Services = request.app.state.services
    check(data)
    async with services.pool.connection() as connection, connection.transaction():
        tenant_id = await tenant_scope(connection, request.user, tenant)
        if tenant_id is None and (data.site is not None or data.sensor is not None):
            raise BadRequest("tenant: a super admin says whose site or sensor it is; add tenant=….")
        (metric,) = await find_metrics(connection, [data.metric])
        limit, hysteresis = await in_stored_unit(connection, metric, data)
        sites = await site_ids(connection, tenant_id, [data.site] if data.site is not None else [])
        sensors = await sensor_ids(
            connection, tenant_id, [data.sensor] if data.sensor is not None else []
        )
        threshold_id = await threshold_upsert(
            connection,
            tenant_id=tenant_id,
            site_id=sites[0] if sites else None,
            sensor_id=sensors[0] if sensors else None,
            metric_id=metric.metric_id,
            severity=data.severity,
            side=data.side,
            limit_value=limit,
            hysteresis=hysteresis,
            min_duration=timedelta(seconds=data.min_duration_seconds),
            is_enabled=data.is_enabled,
            title=data.title,
        )
        rows = await thresholds_page(
            connection, tenant_id=tenant_id, threshold_id=threshold_id, count=1
        )
    services.reads.note_change()
    return rows[0]


@delete(
    "/api/v1/thresholds/{threshold_id:int}",
    guards=[known_parameters],
    tags=["thresholds"],
    summary="Remove a threshold",
)
async def delete_threshold(request: Request[Any, Any, Any], threshold_id: FromPath[int]) -> None:
    """Remove a limit; alerts it raised are resolved by the next sweep, within a minute."""
    services: Services = request.app.state.services
    async with services.pool.connection() as connection:
        is_gone = 0 <= threshold_id <= LARGEST_ID and await threshold_delete(
            connection, threshold_id=threshold_id, tenant_id=request.user.tenant_id
        )
    services.reads.note_change()
    if not is_gone:
        raise NotFound(
            f"There is no threshold {threshold_id} of yours; GET /api/v1/thresholds lists them."
        )


def check(data: ThresholdInput) -> None:
    """What the types don't say. Raises BadRequest with the field's name."""
    choices("severity", [data.severity], ("warning", "critical"))
    choices("side", [data.side], ("low", "high"))
    if data.site is not None and data.sensor is not None:
        raise BadRequest("site, sensor: name one of them, or none for the whole tenant.")
    if not math.isfinite(data.limit):
        raise BadRequest("limit: must be a finite number.")
    if not (math.isfinite(data.hysteresis) and data.hysteresis >= 0):
        raise BadRequest("hysteresis: must be a finite number, 0 or more.")
    if not 0 <= data.min_duration_seconds <= LONGEST_SECONDS:
        raise BadRequest(f"min_duration_seconds: must be from 0 to {LONGEST_SECONDS:g}.")
    if data.title is not None and "\0" in data.title:
        raise BadRequest("title: must not hold a NUL character.")


async def in_stored_unit(
    connection: AsyncConnection, metric: MetricName, data: ThresholdInput
) -> tuple[float, float]:
    """Limit and hysteresis in the metric's unit. Raises BadRequest for a unit we can't convert."""
    if data.unit is None:
        return data.limit, data.hysteresis
    unit = normalise_unit(data.unit)
    row = await unit_of(connection, metric_id=metric.metric_id, unit=unit.replace("\0", ""))
    if row is None:
        raise BadRequest(
            f"unit: {data.unit[:40]!r} is not known for {metric.code}; it is stored in {metric.unit}."
        )
    if row.factor is None:
        raise BadRequest(f"unit: {data.unit[:40]!r} is ambiguous for {metric.code}: {row.refusal}.")
    # a hysteresis is a difference: the shift of a temperature scale is no part of it
    limit, hysteresis = data.limit * row.factor + row.shift, data.hysteresis * row.factor
    if not (math.isfinite(limit) and math.isfinite(hysteresis)):
        raise BadRequest(f"limit: too large in {metric.unit}.")
    return limit, hysteresis
