"""How long a tenant's cold readings are kept, and the legal hold that overrides it.

Whole exports go, when their range ended `keep_days` ago. The intent is written before anything is
deleted, so a process that dies in between leaves work for the next run, never a false alarm.
"""

from datetime import datetime

from psycopg import AsyncConnection

from app.archive.book import rows
from app.archive.hot import ids, moment
from app.archive.lake import TABLE, Lake


async def expire(connection: AsyncConnection, lake: Lake) -> int:
    """Delete what is due, in every tenant; how many readings."""
    deleted = 0
    for tenant_id, until in await rows(connection, "expiry_due"):
        deleted += await _expire(connection, lake, tenant_id, until)
    if deleted:
        # files go with the snapshots that name them
        await lake.ask("call ducklake_expire_snapshots('lake', older_than => now())")
        await lake.ask("call ducklake_cleanup_old_files('lake', cleanup_all => true)")
    return deleted


async def _expire(connection: AsyncConnection, lake: Lake, tenant_id: int, until: datetime) -> int:
    exports = [row[0] for row in await rows(connection, "expiry_exports", until=until)]
    where = (
        f"tenant_id = {int(tenant_id)} and ts < {moment(until)} and export_id in ({ids(exports)})"
    )
    ((count,),) = await lake.ask(f"select count(*) from {TABLE} where {where}")
    marked = await rows(connection, "expiry_mark", tenant_id=tenant_id, until=until)
    if not marked:  # held in the meantime
        return 0
    if count:
        await lake.ask(f"delete from {TABLE} where {where}")
    await rows(connection, "manifest_expire", tenant_id=tenant_id, until=until)
    return int(count)
