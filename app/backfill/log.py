"""What tells the rollups that history has come.

The refresh of a group of shards sees the log of that group alone, so each has rows of its own.
"""

import numpy as np

from app.db.pool import Connection
from app.db.queries import queries
from app.ingest.batch import Batch
from app.ingest.known import stretches
from app.ingest.shard import ShardMap

SQL = queries("import")


async def log_part(connection: Connection, batch: Batch, places: ShardMap | None) -> None:
    """Log stored readings: a row for each day and group of shards; without places there is one."""
    rows: dict[str, list[int]] = {
        name: [] for name in ("sensor_id", "first_us", "last_us", "reading_count")
    }
    group = np.zeros(len(batch), np.int32) if places is None else places.group_of(batch.sensor_id)
    for number in np.unique(group).tolist():
        mine = group == number
        first, last, count = stretches(batch.ts[mine])
        any_sensor = int(batch.sensor_id[mine][0])
        values = ([any_sensor] * len(first), first, last, count)
        for name, more in zip(rows, values, strict=True):
            rows[name] += more
    await connection.execute(SQL["import_log"], rows)
