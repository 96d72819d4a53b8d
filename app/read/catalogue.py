"""GET /api/v1/sensors, /api/v1/sites, /api/v1/metrics."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter
from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from app.db.pool import Connection
from app.db.queries import queries
from app.read.lookup import site_ids
from app.read.parameter import (
    Cursor,
    Regions,
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

SQL = queries("read")
STATUSES = ("active", "maintenance", "retired")

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=10_000, description="Most rows.")]


class SensorRow(msgspec.Struct, frozen=True, kw_only=True):
    """A sensor, with what it has reported so far."""

    sensor_id: int
    sensor: str
    tenant: str
    title: str | None
    site: str | None
    region: str | None
    status: str
    expected_interval_seconds: float | None
    is_auto_registered: bool
    created_at: datetime
    last_ts: datetime | None
    """Time of its newest reading of any metric."""
    metrics: list[str]
    """Codes of the metrics it has reported."""


class SiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A site; WGS 84."""

    site_id: int
    site: str
    tenant: str
    title: str
    region: str | None
    latitude: float | None
    longitude: float | None
    created_at: datetime
    sensors: int


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A unit accepted for a metric: stored value = sent value * factor + shift."""

    unit: str
    factor: float | None
    shift: float
    refusal: str | None
    """Why this unit is refused, and what to send instead."""


class MetricRow(msgspec.Struct, frozen=True, kw_only=True):
    """An observed property, the unit it is stored in, and what senders may call it."""

    metric: str
    title: str
    unit: str
    plausible_min: float
    plausible_max: float
    usgs_parameter: str | None
    wqx_characteristic: str | None
    aliases: list[str]
    units: list[Unit]


class SensorsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Sensors in order of their uid."""

    sensors: list[SensorRow]
    next_cursor: str | None


class SitesPage(msgspec.Struct, frozen=True, kw_only=True):
    """Sites in order of their code."""

    sites: list[SiteRow]
    next_cursor: str | None


class MetricsList(msgspec.Struct, frozen=True, kw_only=True):
    """The whole catalogue of metrics."""

    metrics: list[MetricRow]


async def sensors_page(
    connection: AsyncConnection,
    *,
    tenant_id: int | None,
    site_ids: list[int] | None,
    regions: list[str] | None,
    statuses: list[str] | None,
    pattern: str | None,
    after_uid: str | None,
    after_id: int | None,
    count: int,
) -> list[SensorRow]:
    """Sensors after a key."""
    async with connection.cursor(row_factory=class_row(SensorRow)) as cursor:
        args = {
            "tenant_id": tenant_id,
            "site_ids": site_ids,
            "regions": regions,
            "statuses": statuses,
            "pattern": pattern,
            "after_uid": after_uid,
            "after_id": after_id,
            "count": count,
        }
        await cursor.execute(SQL["sensors_page"], args, prepare=False)
        return await cursor.fetchall()


async def sites_page(
    connection: AsyncConnection,
    *,
    tenant_id: int | None,
    regions: list[str] | None,
    after_code: str | None,
    after_id: int | None,
    count: int,
) -> list[SiteRow]:
    """Sites after a key."""
    async with connection.cursor(row_factory=class_row(SiteRow)) as cursor:
        args = {
            "tenant_id": tenant_id,
            "regions": regions,
            "after_code": after_code,
            "after_id": after_id,
            "count": count,
        }
        await cursor.execute(SQL["sites_page"], args, prepare=False)
        return await cursor.fetchall()


async def metrics_all(connection: AsyncConnection) -> list[MetricRow]:
    """Every metric in order of its code."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(SQL["metrics_all"])
        return msgspec.convert(await cursor.fetchall(), list[MetricRow])


@get("/api/v1/sensors", guards=[known_parameters], tags=["catalogue"], summary="Sensors")
async def get_sensors(
    request: Request[Any, Any, Any],
    *,
    site: Sites = None,
    region: Regions = None,
    status: Annotated[
        list[str] | None, QueryParameter(name="status", description="active, maintenance, retired.")
    ] = None,
    q: Annotated[
        str | None, QueryParameter(name="q", description="Part of the uid or title.")
    ] = None,
    limit: Limit = 1_000,
    cursor: Cursor = None,
    tenant: Tenant = None,
) -> SensorsPage:
    """Sensors with their newest reading's time and the metrics they report."""
    services: Services = request.app.state.services
    statuses = choices("status", status, STATUSES)
    after_uid, after_id = unpack("sensors", cursor, str, int) if cursor else (None, None)

    async def page(connection: Connection) -> list[SensorRow]:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        return await sensors_page(
            connection,
            tenant_id=tenant_id,
            site_ids=await site_ids(connection, tenant_id, words(site)),
            regions=words(region) or None,
            statuses=statuses or None,
            pattern=contains(q),
            after_uid=after_uid,
            after_id=after_id,
            count=limit + 1,
        )

    rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    is_more = len(rows) > limit
    del rows[limit:]
    return SensorsPage(
        sensors=rows,
        next_cursor=pack("sensors", rows[-1].sensor, rows[-1].sensor_id) if is_more else None,
    )


@get("/api/v1/sites", guards=[known_parameters], tags=["catalogue"], summary="Sites")
async def get_sites(
    request: Request[Any, Any, Any],
    *,
    region: Regions = None,
    limit: Limit = 1_000,
    cursor: Cursor = None,
    tenant: Tenant = None,
) -> SitesPage:
    """Sites with their point and how many sensors they have."""
    services: Services = request.app.state.services
    after_code, after_id = unpack("sites", cursor, str, int) if cursor else (None, None)

    async def page(connection: Connection) -> list[SiteRow]:
        return await sites_page(
            connection,
            tenant_id=await tenant_scope(connection, request.user, tenant),
            regions=words(region) or None,
            after_code=after_code,
            after_id=after_id,
            count=limit + 1,
        )

    rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    is_more = len(rows) > limit
    del rows[limit:]
    return SitesPage(
        sites=rows,
        next_cursor=pack("sites", rows[-1].site, rows[-1].site_id) if is_more else None,
    )


@get("/api/v1/metrics", guards=[known_parameters], tags=["catalogue"], summary="Metrics and units")
async def get_metrics(request: Request[Any, Any, Any]) -> MetricsList:
    """What can be measured, the unit it is stored in, and the names and units senders may use."""
    services: Services = request.app.state.services
    rows = await services.reads.run(metrics_all, is_fresh=wants_fresh(request))
    return MetricsList(metrics=rows)


def contains(text: str | None) -> str | None:
    """A LIKE pattern for "has this in it"."""
    if not text:
        return None
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%".replace("\0", "")
