"""GET /api/v1/alerts, one alert, people's decisions on it, and the older design's GET /api/alerts."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from app.alert.alert import Alert
from app.db.pool import Connection
from app.db.queries import queries
from app.errors import BadRequest, NotFound
from app.read.lookup import metric_ids, sensor_ids, site_ids
from app.read.parameter import (
    Cursor,
    From,
    Metrics,
    Regions,
    Sensors,
    Sites,
    Tenant,
    To,
    choices,
    known_parameters,
    moment,
    pack,
    tenant_scope,
    unpack,
    wants_fresh,
    words,
)
from app.services import Services

SQL = queries("alert")

RAISED = ("open", "acknowledged", "investigating", "resolved")
STATES = ("pending", *RAISED)
SEVERITIES = ("warning", "critical")
LARGEST_ID = 2**63 - 1
NOTE_LENGTH = 4_000
MAX_BODY_BYTES = 65_536


class AlertsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, newest first."""

    alerts: list[Alert]
    next_cursor: str | None


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person adds to a decision."""

    note: Annotated[str, msgspec.Meta(max_length=NOTE_LENGTH)] | None = None


class OldAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert in the older design's form."""

    alert_id: int
    sensor_id: str
    region: str | None
    metric: str
    severity: str
    status: str
    message: str
    timestamp: datetime
    value: float


async def alerts_page(
    connection: AsyncConnection,
    *,
    tenant_id: int | None,
    count: int,
    episode_id: int | None = None,
    states: list[str] | None = None,
    severities: list[str] | None = None,
    site_ids: list[int] | None = None,
    regions: list[str] | None = None,
    sensor_ids: list[int] | None = None,
    metric_ids: list[int] | None = None,
    from_ts: datetime | None = None,
    to_ts: datetime | None = None,
    before_ts: datetime | None = None,
    before_id: int | None = None,
) -> list[Alert]:
    """Alerts before a key, newest first."""
    args = {name: value for name, value in locals().items() if name != "connection"}
    async with connection.cursor(row_factory=class_row(Alert)) as cursor:
        await cursor.execute(SQL["alerts_page"], args, prepare=False)
        return await cursor.fetchall()


async def alert_decide(
    connection: AsyncConnection,
    *,
    episode_id: int,
    tenant_id: int | None,
    state: str,
    by: str,
    note: str | None,
) -> bool:
    """Decide on an alert; False where the tenant has no such alert. SQLSTATE HW409: not now."""
    args = {
        "episode_id": episode_id,
        "tenant_id": tenant_id,
        "state": state,
        "by": by,
        "note": note,
    }
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["alert_decide"], args)
        return await cursor.fetchone() is not None


@get("/api/v1/alerts", guards=[known_parameters], tags=["alerts"], summary="Alerts")
async def get_alerts(
    request: Request[Any, Any, Any],
    *,
    wanted_states: Annotated[
        list[str] | None,
        QueryParameter(name="state", description=f"{', '.join(STATES)}; default: all but pending."),
    ] = None,
    severity: Annotated[
        list[str] | None, QueryParameter(name="severity", description="warning, critical or both.")
    ] = None,
    site: Sites = None,
    region: Regions = None,
    sensor: Sensors = None,
    metric: Metrics = None,
    start: From = None,
    end: To = None,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=10_000, description="Most rows.")
    ] = 100,
    cursor: Cursor = None,
    tenant: Tenant = None,
) -> AlertsPage:
    """Alerts, newest first; `from` and `to` bound the time of their first violating reading."""
    services: Services = request.app.state.services
    states = choices("state", wanted_states, STATES) or list(RAISED)
    severities = choices("severity", severity, SEVERITIES)
    from_ts = moment("from", start) if start is not None else None
    to_ts = moment("to", end) if end is not None else None
    if from_ts and to_ts and from_ts >= to_ts:
        raise BadRequest("from: must be before to.")
    before = unpack("alerts", cursor, datetime, int) if cursor else (None, None)

    async def page(connection: Connection) -> list[Alert]:
        tenant_id = await tenant_scope(connection, request.user, tenant)
        return await alerts_page(
            connection,
            tenant_id=tenant_id,
            states=states,
            severities=severities or None,
            site_ids=await site_ids(connection, tenant_id, words(site)),
            regions=words(region) or None,
            sensor_ids=await sensor_ids(connection, tenant_id, words(sensor)),
            metric_ids=await metric_ids(connection, words(metric)),
            from_ts=from_ts,
            to_ts=to_ts,
            before_ts=before[0],
            before_id=before[1],
            count=limit + 1,
        )

    rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    is_more = len(rows) > limit
    del rows[limit:]
    return AlertsPage(
        alerts=rows,
        next_cursor=pack("alerts", rows[-1].opened_at, rows[-1].alert_id) if is_more else None,
    )


@get(
    "/api/v1/alerts/{episode_id:int}",
    guards=[known_parameters],
    tags=["alerts"],
    summary="One alert",
)
async def get_alert(request: Request[Any, Any, Any], episode_id: FromPath[int]) -> Alert:
    """An alert as it is now."""
    services: Services = request.app.state.services
    return await services.reads.run(
        lambda connection: one(connection, request.user.tenant_id, episode_id),
        is_fresh=wants_fresh(request),
    )


async def one(connection: AsyncConnection, tenant_id: int | None, episode_id: int) -> Alert:
    """The alert. Raises NotFound."""
    rows = []
    if 0 <= episode_id <= LARGEST_ID:
        rows = await alerts_page(connection, tenant_id=tenant_id, episode_id=episode_id, count=1)
    if not rows:
        raise NotFound(f"There is no alert {episode_id}; GET /api/v1/alerts lists them.")
    return rows[0]


async def decide(
    request: Request[Any, Any, Any], episode_id: int, state: str, decision: Decision | None
) -> Alert:
    """Carry out a person's decision. Raises NotFound; SQLSTATE HW409 becomes 409."""
    services: Services = request.app.state.services
    principal = request.user
    note = decision.note if decision else None
    if note is not None and "\0" in note:
        raise BadRequest("note: must not hold a NUL character.")
    async with services.pool.connection() as connection:
        await one(connection, principal.tenant_id, episode_id)
        if not await alert_decide(
            connection,
            episode_id=episode_id,
            tenant_id=principal.tenant_id,
            state=state,
            by=principal.name,
            note=note,
        ):
            raise NotFound(f"There is no alert {episode_id} to decide on.")
        decided = await one(connection, principal.tenant_id, episode_id)
    services.reads.note_change()
    return decided


@post(
    "/api/v1/alerts/{episode_id:int}/acknowledge",
    status_code=200,
    request_max_body_size=MAX_BODY_BYTES,
    guards=[known_parameters],
    tags=["alerts"],
    summary="Acknowledge an alert",
)
async def acknowledge(
    request: Request[Any, Any, Any],
    episode_id: FromPath[int],
    data: JSONBody[Decision | None] = None,
) -> Alert:
    """Somebody has seen it; 409 where its state does not permit that."""
    return await decide(request, episode_id, "acknowledged", data)


@post(
    "/api/v1/alerts/{episode_id:int}/investigate",
    status_code=200,
    request_max_body_size=MAX_BODY_BYTES,
    guards=[known_parameters],
    tags=["alerts"],
    summary="Begin to investigate an alert",
)
async def investigate(
    request: Request[Any, Any, Any],
    episode_id: FromPath[int],
    data: JSONBody[Decision | None] = None,
) -> Alert:
    """Somebody looks into it; 409 where its state does not permit that."""
    return await decide(request, episode_id, "investigating", data)


@post(
    "/api/v1/alerts/{episode_id:int}/resolve",
    status_code=200,
    request_max_body_size=MAX_BODY_BYTES,
    guards=[known_parameters],
    tags=["alerts"],
    summary="Resolve an alert",
)
async def resolve(
    request: Request[Any, Any, Any],
    episode_id: FromPath[int],
    data: JSONBody[Decision | None] = None,
) -> Alert:
    """It is over; a later violating reading opens another one. 409 where it was over already."""
    return await decide(request, episode_id, "resolved", data)


@get("/api/alerts", guards=[known_parameters], tags=["older design"], summary="Alerts, older form")
async def get_old_alerts(
    request: Request[Any, Any, Any],
    *,
    region: Regions = None,
    limit: Annotated[
        int, QueryParameter(name="limit", ge=1, le=10_000, description="Most rows.")
    ] = 1_000,
    tenant: Tenant = None,
) -> list[OldAlert]:
    """Alerts of a region, newest first, as a plain list."""
    services: Services = request.app.state.services

    async def page(connection: Connection) -> list[Alert]:
        return await alerts_page(
            connection,
            tenant_id=await tenant_scope(connection, request.user, tenant),
            states=list(RAISED),
            regions=words(region) or None,
            count=limit,
        )

    rows = await services.reads.run(page, is_fresh=wants_fresh(request))
    return [
        OldAlert(
            alert_id=row.alert_id,
            sensor_id=row.sensor,
            region=row.region,
            metric=row.metric,
            severity=row.severity,
            status=row.state,
            message=sentence(row),
            timestamp=row.opened_at,
            value=row.peak,
        )
        for row in rows
    ]


def sentence(alert: Alert) -> str:
    """What happened, for people."""
    beyond = "above" if alert.side == "high" else "below"
    unit = "" if alert.unit == "pH" else f" {alert.unit}"
    where = f" at {alert.site}" if alert.site else ""
    return (
        f"{alert.metric} {alert.peak:g}{unit} {beyond} the {alert.severity} limit "
        f"{alert.limit:g}{unit}{where}"
    )
