"""What senders' words mean: sensors, metrics, units; remembered so that a batch costs no query.

The database is the authority. A change of the catalogue clears the memory (channel
`catalogue_changed`); sensors nobody knows are remembered for a few seconds only.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray
from psycopg import AsyncConnection, OperationalError
from psycopg.rows import class_row
from psycopg_pool import PoolTimeout

from app.db.pool import Pool
from app.db.queries import queries
from app.db.together import Together
from app.identity.permission import Principal
from app.ingest.band import BandTable
from app.ingest.channel import ChannelTable, Metric, Refused, Resolved, meaning
from app.ingest.columns import Channel

SQL = queries("ingest")
log = structlog.get_logger()

MOST_CHANNELS = 100_000
"""Remembered at most, alone and together."""


class Sensor(msgspec.Struct, frozen=True):
    """A row of sensors_by_uid."""

    uid: str
    sensor_id: int
    status: str
    site_id: int | None


@dataclass(frozen=True)
class Fleet:
    """The sensors of a sender that names the same ones again and again, all of them welcome."""

    principal: Principal
    bands: BandTable | None
    sensor_ids: NDArray[np.int64]
    line: NDArray[np.int32] | None
    """Of `bands`, sensor by sensor."""


class Fleets:
    """Fleets by key and uids; bounded, emptied where there are too many."""

    MOST_UIDS = 100_000

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[str, ...]], Fleet] = {}
        self._uids = 0

    def find(
        self, principal: Principal, uids: Sequence[str], bands: BandTable | None
    ) -> Fleet | None:
        """What is known, unless the key or the limits have changed since."""
        fleet = self._known.get((principal.api_key_id, tuple(uids)))
        if fleet is None or fleet.principal is not principal or fleet.bands is not bands:
            return None
        return fleet

    def keep(self, uids: Sequence[str], fleet: Fleet) -> None:
        """Remember, instead of what was known before."""
        if self._uids + len(uids) > self.MOST_UIDS:
            self._known.clear()
            self._uids = 0
        self._known[fleet.principal.api_key_id, tuple(uids)] = fleet
        self._uids += len(uids)


class Memory:
    """What is remembered between two changes of the catalogue."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] | None = None
        self.channels: dict[Channel, Resolved | Refused] = {}
        self.tabled = 0
        """Channels in `tables`."""
        self.tables: dict[tuple[Channel, ...], ChannelTable] = {}
        self.sensors: dict[tuple[int, str], Sensor] = {}
        self.unknown: dict[tuple[int, str], float] = {}
        self.fleets = Fleets()
        self.asked: dict[tuple[int, bool], Together[str]] = {}
        """By tenant and whether it takes new sensors."""


class Catalogue:
    """Resolves uids and channels; bounded, shared by all requests of the process.

    A request works on one memory to its end: what it reads while the catalogue changes never gets
    into the next memory, and what it knew is not lost under its hands.
    """

    def __init__(self, pool: Pool, *, size: int = 1_000_000) -> None:
        self._pool = pool
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget everything: the catalogue has changed."""
        self._memory = Memory()
        self._metrics = Together(partial(self._load_metrics, self._memory))

    @property
    def fleets(self) -> Fleets:
        """Of the present memory; whoever waits for the database meanwhile keeps this one."""
        return self._memory.fleets

    def forget_unknown(self) -> None:
        """There are new sensors: ask again for those that nobody knew."""
        self._memory.unknown = {}

    async def channels(self, wanted: Sequence[Channel]) -> ChannelTable:
        """The meaning of each (metric, unit)."""
        memory = self._memory
        name = tuple(wanted)
        table = memory.tables.get(name)
        if table is not None:
            return table
        if memory.metrics is None:
            await self._metrics.want(())
        assert memory.metrics is not None
        found = []
        for channel in wanted:
            known = memory.channels.get(channel)
            if known is None:
                known = meaning(memory.metrics, *channel)
                if len(memory.channels) < MOST_CHANNELS:  # senders choose these words
                    memory.channels[channel] = known
            found.append(known)
        table = ChannelTable.of(found)
        if memory.tabled + len(name) <= MOST_CHANNELS:
            memory.tables[name] = table
            memory.tabled += len(name)
        return table

    async def sensors(
        self, tenant_id: int, uids: list[str], *, is_auto_register: bool
    ) -> tuple[list[Sensor | None], frozenset[str]]:
        """The sensor of each uid, None where the tenant has none; uids of which nobody could tell.

        New sensors need every node of a distributed server; those that are known need none. Raises
        what the database says where it could tell of no uid at all.
        """
        if len(self._memory.sensors) + len(self._memory.unknown) > self._size:
            self.clear()
        memory = self._memory
        now = time.monotonic()
        missing = [
            uid
            for uid in uids
            if (tenant_id, uid) not in memory.sensors
            and (is_auto_register or now - memory.unknown.get((tenant_id, uid), -60.0) > 5.0)
            and is_uid(uid)
        ]
        unclear: frozenset[str] = frozenset()
        if missing:
            try:
                await self._asked(memory, tenant_id, is_auto_register).want(missing)
            except (OperationalError, PoolTimeout) as exc:
                unclear = frozenset(
                    uid for uid in missing if (tenant_id, uid) not in memory.sensors
                )
                if unclear.issuperset(uids):
                    raise
                log.warning("sensors_unclear", count=len(unclear), error=str(exc).strip())
        return [memory.sensors.get((tenant_id, uid)) for uid in uids], unclear

    async def _load_metrics(self, memory: Memory, _: list[None]) -> None:
        async with (
            self._pool.connection() as connection,
            connection.cursor(row_factory=class_row(Metric)) as cursor,
        ):
            await cursor.execute(SQL["metric_channels"])
            memory.metrics = {
                alias: metric for metric in await cursor.fetchall() for alias in metric.aliases
            }

    def _asked(self, memory: Memory, tenant_id: int, is_auto_register: bool) -> Together[str]:
        key = (tenant_id, is_auto_register)
        if key not in memory.asked:
            memory.asked[key] = Together(partial(self._look_up, memory, *key))
        return memory.asked[key]

    async def _look_up(
        self, memory: Memory, tenant_id: int, is_auto_register: bool, uids: list[str]
    ) -> None:
        now = time.monotonic()
        async with self._pool.connection() as connection:
            found = await sensors_by_uid(connection, tenant_id=tenant_id, uids=uids)
            _remember(memory, tenant_id, found)
            if is_auto_register and len(found) < len(uids):
                known = {sensor.uid for sensor in found}
                new = [uid for uid in uids if uid not in known]
                await connection.execute(
                    SQL["sensors_register"], {"tenant_id": tenant_id, "uids": new}
                )
                found += await sensors_by_uid(connection, tenant_id=tenant_id, uids=new)
        memory.unknown.update(((tenant_id, uid), now) for uid in uids)
        _remember(memory, tenant_id, found)


def _remember(memory: Memory, tenant_id: int, found: list[Sensor]) -> None:
    for sensor in found:
        memory.sensors[tenant_id, sensor.uid] = sensor
        memory.unknown.pop((tenant_id, sensor.uid), None)


def is_uid(text: str) -> bool:
    """Whether a sensor can be called so."""
    return 1 <= len(text) <= 128 and "\0" not in text


async def sensors_by_uid(
    connection: AsyncConnection, *, tenant_id: int, uids: list[str]
) -> list[Sensor]:
    """Those of the uids that the tenant has."""
    async with connection.cursor(row_factory=class_row(Sensor)) as cursor:
        await cursor.execute(SQL["sensors_by_uid"], {"tenant_id": tenant_id, "uids": uids})
        return await cursor.fetchall()
