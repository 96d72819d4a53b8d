"""Judges readings that no writer judged, and closes what two writers could not see of each other."""

from psycopg import AsyncConnection

from app.db.queries import queries
from app.live.event import outbox_collect_living

SQL = queries("jobs")


async def sweep_alerts(connection: AsyncConnection) -> None:
    """Sweep the last quarter of an hour; readings that are older need `alert.sweep` by hand."""
    await connection.execute(SQL["alert_sweep"], {"span": "15 minutes"})
    await outbox_collect_living(connection)
