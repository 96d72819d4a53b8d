"""The way of readings to the server that stores them.

On one server there is one writer. On a distributed server each worker has one of its own: a batch is
cut by node and every part is written straight to the shards there, in one transaction that needs no
other node. INGEST_ROAD=coordinator sends the same parts through the coordinator instead, so that there,
too, a node that is away costs its own readings only.

Invariants
- A part that can't be written costs its own readings only: their verdict is AWAY, others are stored.
- Where nothing could be written the reason is raised, as on one server.
- A shard that has moved is looked up anew and written at its new place; one that is just being moved is
  waited for, its neighbours are not.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psycopg
import structlog
from numpy.typing import NDArray

from app.db.moving import DETAIL, is_elsewhere
from app.db.pool import connect
from app.errors import Unavailable
from app.ingest.band import BandKeeper
from app.ingest.batch import Batch
from app.ingest.known import Codes
from app.ingest.link import Curious
from app.ingest.shard import ShardMap, Target
from app.ingest.verdict import Code
from app.ingest.writer import Writer
from app.migrate.nodes import address_of
from app.migrate.places import Node, is_spread, read_places
from app.settings import Settings

log = structlog.get_logger()

PATIENCE_SECONDS = 15.0
PAUSE_SECONDS = 0.25
LOOK_AGAIN_SECONDS = 5.0


class Road:
    """The process's road into telemetry.reading, whatever the server is."""

    def __init__(
        self,
        settings: Settings,
        on_nodes: Callable[[list[str]], None] = lambda _: None,
        curious: Curious | None = None,
    ) -> None:
        self._settings = settings
        self._curious = curious
        self._on_nodes = on_nodes
        self._map: ShardMap | None = None
        self._is_known = False
        self._look_at = 0.0
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._near: Writer | None = None
        self._far: dict[Node, Writer] = {}
        self.bands = BandKeeper()

    @property
    def places(self) -> ShardMap | None:
        """Where shards are, as far as it is known; None on one server."""
        return self._map

    def by_node(self, sensor_ids: list[int]) -> list[list[int]]:
        """The sensors, node by node."""
        return [sensor_ids] if self._map is None else self._map.by_node(sensor_ids)

    @property
    def _is_direct(self) -> bool:
        return self._settings.ingest_road != "coordinator"

    @property
    def queued_readings(self) -> int:
        """Readings that wait for a writer."""
        return sum(writer.queued_readings for writer in self._writers())

    @property
    def connected(self) -> int:
        """Writer connections that are up."""
        return sum(writer.connected for writer in self._writers())

    def start(self) -> None:
        """Begin in the background; the server may still be down."""
        self._task = asyncio.create_task(self._begin(), name="road")

    async def _begin(self) -> None:
        while not self._is_known:
            with contextlib.suppress(Unavailable):
                await self._places()
                return
            await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """Write what was accepted, then stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(writer.stop() for writer in self._writers()))

    async def flush_latest(self, sensor_ids: Sequence[int] | None) -> None:
        """Wait until what this process has committed is in telemetry.latest_reading.

        Of these sensors; None: of all.
        """
        await asyncio.gather(*(writer.flush_latest(sensor_ids) for writer in self._writers()))

    def look_again(self) -> None:
        """Shards have moved: learn where they are, also if no batch comes."""
        self._is_known = False
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._begin(), name="road")

    def _note(self, newest: Batch) -> None:
        """Latest readings whose shards are elsewhere by now."""
        if self._map is None or newest.group is None:
            return
        node_of = self._map.node_of[newest.group]
        for number in np.unique(node_of).tolist():
            writer = self._far.get(self._map.nodes[number])
            if writer is not None:
                writer.latest.note(newest.where(node_of == number))

    async def submit(self, batch: Batch) -> Codes:
        """Write a batch; the verdict of each reading: STORED, DUPLICATE, CONFLICT or AWAY, shape (n,).

        Raises Unavailable where nothing could be written; sending again is safe.
        """
        places = await self._places()
        if places is None:
            assert self._near is not None
            return await self._near.submit(batch)
        if not len(batch):
            return np.zeros(0, dtype=np.uint8)
        group = places.group_of(batch.sensor_id)
        return await self._spread(places, batch, group, places.node_of[group])

    async def _spread(
        self,
        places: ShardMap,
        batch: Batch,
        group: NDArray[np.int32],
        key: NDArray[np.signedinteger[Any]],
    ) -> Codes:
        """Write the parts of a batch that differ in `key`, side by side."""
        first = key[0]
        if (key == first).all():
            return await self._deliver(places, batch, group)
        parts = [np.flatnonzero(key == one) for one in np.unique(key)]
        results = await asyncio.gather(
            *(self._deliver(places, batch.where(part), group[part]) for part in parts),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, Unavailable) or len(failures) == len(parts):
                raise failure
        codes = np.full(len(batch), Code.AWAY, dtype=np.uint8)
        for part, result in zip(parts, results, strict=True):
            if not isinstance(result, BaseException):
                codes[part] = result
        return codes

    async def _deliver(self, places: ShardMap, batch: Batch, group: NDArray[np.int32]) -> Codes:
        """Write readings of one node; look again where a shard is not there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            node = places.nodes[places.node_of[group[0]]]
            batch.group = group if self._is_direct else None
            try:
                return await self._to(node).submit(batch)
            except psycopg.Error as exc:
                if not is_elsewhere(exc):
                    raise
                if time.monotonic() > deadline:
                    raise Unavailable(DETAIL, headers={"Retry-After": "5"}) from None
                if (group != group[0]).any():  # only some of them, perhaps
                    return await self._spread(places, batch, group, group)
                await asyncio.sleep(PAUSE_SECONDS)
            if self._map is places:  # nobody has looked meanwhile
                self._is_known = False
            found = await self._places()
            assert found is not None
            places, group = found, found.group_of(batch.sensor_id)

    def _to(self, node: Node) -> Writer:
        try:
            return self._far[node]
        except KeyError:
            raise psycopg.errors.UndefinedTable(f"{node} has no shards any more") from None

    async def _places(self) -> ShardMap | None:
        """Where shards are; None: everything goes through the server that is configured."""
        if not self._is_known and time.monotonic() >= self._look_at:
            async with self._lock:
                if not self._is_known and time.monotonic() >= self._look_at:
                    await self._learn()
        return self._map

    async def _learn(self) -> None:
        try:
            async with await connect(
                self._settings.ingest_database_url, application="headwater-road", patience=10.0
            ) as connection:
                places = await read_places(connection) if await is_spread(connection) else None
        except (psycopg.Error, OSError) as exc:
            if self._map is not None:  # workers go on without the coordinator
                self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
                return
            log.warning("road_unknown", error=str(exc).strip())
            raise Unavailable(
                "The database can't be reached; send again later, nothing is lost by it.",
                headers={"Retry-After": "2"},
            ) from None
        self._is_known = True
        url = self._settings.ingest_database_url
        if places is None:
            if self._near is None:
                self._near = self._writer(url, {0: Target()}, 1)
            return
        self._map = ShardMap(places)
        parts = len(self._map.groups if self._is_direct else self._map.nodes)
        known = set(self._far)
        for node in self._map.nodes:
            if node not in known:
                way = address_of(url, node) if self._is_direct else url
                self._far[node] = self._writer(way, self._targets(self._map, node), parts)
        for node in known & set(self._map.nodes):
            self._far[node].aim(self._targets(self._map, node), parts)
        for node in known - set(self._map.nodes):
            gone = self._far.pop(node)
            gone.aim({}, parts)
            await gone.stop()
        if not self._is_direct:
            return
        direct = self._settings.direct_database_url
        self._on_nodes([address_of(direct, node) for node in self._map.nodes])

    def _targets(self, places: ShardMap, node: Node) -> dict[int, Target]:
        return places.targets(node) if self._is_direct else {0: Target(rings=True)}

    def _writer(self, url: str, targets: dict[int, Target], parts: int) -> Writer:
        writer = Writer(
            self._settings,
            url,
            targets,
            self.bands,
            self._note,
            parts=parts,
            curious=self._curious,
        )
        writer.start()
        return writer

    def _writers(self) -> list[Writer]:
        return [*self._far.values(), *([self._near] if self._near else [])]
