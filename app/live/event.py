"""An alert's change as live clients get it, and the statements that read it from the outbox."""

from datetime import UTC, datetime

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from app.db.queries import queries

SQL = queries("live")


class OutboxEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the outbox with the alert as it is now."""

    outbox_id: int
    kind: str
    tenant_id: int
    ts: datetime
    value: float
    created_at: datetime
    alert_id: int
    tenant: str
    sensor: str
    site: str | None
    region: str | None
    metric: str
    unit: str
    severity: str
    side: str
    state: str
    limit: float
    peak: float
    opened_at: datetime
    last_at: datetime
    resolved_at: datetime | None
    readings: int
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_by: str | None
    note: str | None


ABOUT_THE_EVENT = frozenset({"outbox_id", "kind", "tenant_id", "ts", "value", "created_at"})
ABOUT_THE_ALERT = tuple(
    name for name in OutboxEvent.__struct_fields__ if name not in ABOUT_THE_EVENT
)


async def outbox_events(
    connection: AsyncConnection,
    *,
    after: int,
    gaps: list[int],
    tenant_id: int | None,
    count: int,
) -> list[OutboxEvent]:
    """Events after an identifier, and those of `gaps` that are there by now."""
    async with connection.cursor(row_factory=class_row(OutboxEvent)) as cursor:
        args = {"after": after, "gaps": gaps, "tenant_id": tenant_id, "count": count}
        await cursor.execute(SQL["outbox_events"], args)
        return await cursor.fetchall()


async def outbox_collect(connection: AsyncConnection) -> int:
    """Bring what other nodes have noted into the outbox; how many events."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["outbox_collect"])
        return int(await cursor.fetchone() or 0)


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
