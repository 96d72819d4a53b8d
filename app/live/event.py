"""An alert's change as live clients get it, and the statements that read it from the outbox."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from psycopg import AsyncConnection, OperationalError
from psycopg.pq.abc import PGresult
from psycopg.rows import class_row, scalar_row

from app.alert.alert import Alert
from app.db.array import literal
from app.db.away import node_away
from app.db.copying import rows_of
from app.db.queries import queries

SQL = queries("live")


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the outbox."""

    outbox_id: int
    kind: str
    tenant_id: int
    sensor_id: int
    episode_id: int
    ts: datetime
    value: float
    created_at: datetime


class OutboxEvent(Alert, frozen=True, kw_only=True):
    """One row of the outbox with the alert as it is now."""

    outbox_id: int
    kind: str
    tenant_id: int
    ts: datetime
    value: float
    created_at: datetime


ABOUT_THE_ALERT = Alert.__struct_fields__


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order."""

    events: list[OutboxEvent]
    unread: list[int]
    """Identifiers of those that lie on a node that is away."""
    last: int | None
    """The last identifier looked at; None: there was none."""
    is_full: bool
    """There may be more."""


Apart = Callable[[list[int]], list[list[int]]]
"""Sensors, node by node."""


async def outbox_events(
    connection: AsyncConnection, *, after: int, gaps: list[int], tenant_id: int | None, count: int
) -> list[OutboxEvent]:
    """Events after an identifier, and those of `gaps` that are there by now, of one server."""
    async with connection.cursor(row_factory=class_row(OutboxEvent)) as cursor:
        args = {"after": after, "gaps": gaps, "tenant_id": tenant_id, "count": count}
        await cursor.execute(SQL["outbox_events"], args)
        return await cursor.fetchall()


async def outbox_page(
    connection: AsyncConnection, *, after: int, gaps: list[int], tenant_id: int | None, count: int
) -> list[OutboxRow]:
    """Rows after an identifier, and those of `gaps` that are there by now."""
    async with connection.cursor(row_factory=class_row(OutboxRow)) as cursor:
        args = {"after": after, "gaps": gaps, "tenant_id": tenant_id, "count": count}
        await cursor.execute(SQL["outbox_page"], args)
        return await cursor.fetchall()


async def outbox_alerts(
    connection: AsyncConnection, *, sensor_ids: list[int], episode_ids: list[int]
) -> list[Alert]:
    """These alerts of these sensors, unprepared, so that only their shards are asked."""
    async with connection.cursor(row_factory=class_row(Alert)) as cursor:
        args = {"sensor_ids": sensor_ids, "episode_ids": episode_ids}
        await cursor.execute(SQL["outbox_alerts"], args, prepare=False)
        return await cursor.fetchall()


async def outbox_is_apart(connection: AsyncConnection) -> bool:
    """Whether events are noted on other nodes, and have to be collected."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["outbox_is_apart"])
        return bool(await cursor.fetchone())


async def outbox_collect(connection: AsyncConnection) -> int:
    """Bring what other nodes have noted into the outbox; how many events."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["outbox_collect"])
        return int(await cursor.fetchone() or 0)


async def outbox_collect_living(connection: AsyncConnection) -> int:
    """The same from the nodes that can be reached, which is slower."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["outbox_collect_living"])
        return int(await cursor.fetchone() or 0)


async def read_events(
    connection: AsyncConnection,
    *,
    after: int,
    gaps: list[int],
    tenant_id: int | None,
    count: int,
    apart: Apart | None = None,
    is_apart: bool = True,
) -> Page:
    """Events after an identifier, and those of `gaps` that are there by now.

    With `apart`, what lies on a node that is away is left out instead of raised.
    """
    if not is_apart:
        events = await outbox_events(
            connection, after=after, gaps=gaps, tenant_id=tenant_id, count=count
        )
        return _whole(events, count)
    rows = await outbox_page(connection, after=after, gaps=gaps, tenant_id=tenant_id, count=count)
    sensor_ids = list(dict.fromkeys(row.sensor_id for row in rows))
    unread: set[int] = set()
    alerts: dict[int, Alert] = {}
    if rows:
        try:
            alerts = await _alerts(connection, rows, sensor_ids)
        except OperationalError as exc:
            if apart is None or connection.closed or node_away(exc) is None:
                raise
            for part in apart(sensor_ids):
                try:
                    alerts |= await _alerts(connection, rows, part)
                except OperationalError as one:
                    if connection.closed or node_away(one) is None:
                        raise
                    unread.update(part)
    return Page(
        events=[_event(row, alerts[row.episode_id]) for row in rows if row.episode_id in alerts],
        unread=[row.outbox_id for row in rows if row.sensor_id in unread],
        last=rows[-1].outbox_id if rows else None,
        is_full=len(rows) == count,
    )


def events_question(*, after: int, gaps: list[int], count: int) -> str:
    """The statement of `outbox_events` for all tenants, with its parameters in it."""
    return SQL["outbox_events"] % {
        "after": after,
        "gaps": literal(gaps),
        "tenant_id": "null",
        "count": count,
    }


def events_of(connection: AsyncConnection, result: PGresult, *, count: int) -> Page:
    """Its answer."""
    names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
    rows = rows_of(connection, result)
    return _whole([OutboxEvent(**dict(zip(names, row, strict=True))) for row in rows], count)


def _whole(events: list[OutboxEvent], count: int) -> Page:
    return Page(
        events=events,
        unread=[],
        last=events[-1].outbox_id if events else None,
        is_full=len(events) >= count,
    )


async def _alerts(
    connection: AsyncConnection, rows: list[OutboxRow], sensor_ids: list[int]
) -> dict[int, Alert]:
    wanted = set(sensor_ids)
    found = await outbox_alerts(
        connection,
        sensor_ids=sensor_ids,
        episode_ids=[row.episode_id for row in rows if row.sensor_id in wanted],
    )
    return {alert.alert_id: alert for alert in found}


def _event(row: OutboxRow, alert: Alert) -> OutboxEvent:
    return OutboxEvent(
        outbox_id=row.outbox_id,
        kind=row.kind,
        tenant_id=row.tenant_id,
        ts=row.ts,
        value=row.value,
        created_at=row.created_at,
        **msgspec.structs.asdict(alert),
    )


async def outbox_newest(connection: AsyncConnection) -> int:
    """The highest identifier that can be seen."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["outbox_newest"])
        return int(await cursor.fetchone() or 0)


async def outbox_known(connection: AsyncConnection, *, after: int, upto: int) -> list[int]:
    """The identifiers in (after, upto] whose rows can be seen."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["outbox_known"], {"after": after, "upto": upto})
        return await cursor.fetchall()


def message(event: OutboxEvent, *, resume: int) -> str:
    """The event's JSON. `resume` is where a client that lost its connection goes on from."""
    return msgspec.json.encode(
        {
            "id": event.outbox_id,
            "kind": event.kind,
            "alert": {name: getattr(event, name) for name in ABOUT_THE_ALERT},
            "ts": event.ts,
            "value": event.value,
            "sent_at": datetime.now(UTC),
            "resume": resume,
        }
    ).decode()
