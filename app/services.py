"""Everything a running API process holds, built once and handed to the routes."""

from dataclasses import dataclass, field

from app.archive.read import ColdReader
from app.db.bell import Bell
from app.db.pool import Pool, make_pool
from app.db.reads import Reads
from app.identity.key import KeyRing
from app.ingest.catalogue import Catalogue
from app.ingest.road import Road
from app.live.hub import Hub
from app.live.nodes import NodeBells
from app.ops.status import Probe
from app.query.desk import Desk
from app.rate.limiter import Limiter
from app.settings import Settings


@dataclass
class Services:
    """The process's parts. A server that is down stops no start: parts recover alone."""

    settings: Settings
    pool: Pool = field(init=False)
    reads: Reads = field(init=False)
    keys: KeyRing = field(init=False)
    catalogue: Catalogue = field(init=False)
    writer: Road = field(init=False)
    hub: Hub = field(init=False)
    bell: Bell = field(init=False)
    bells: NodeBells = field(init=False)
    probe: Probe = field(init=False)
    cold: ColdReader = field(init=False)
    limiter: Limiter = field(init=False)
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.pool = make_pool(self.settings)
        self.reads = Reads(self.settings, self.pool)
        self.keys = KeyRing(self.pool)
        self.catalogue = Catalogue(self.pool)
        self.hub = Hub(self.pool, self._by_node)
        self.bells = NodeBells(self.hub.ring)
        self.writer = Road(self.settings, self.bells.listen_on, self.hub)
        self.probe = Probe(self.settings)
        self.cold = ColdReader(self.settings)
        self.limiter = Limiter(self.settings)
        self.desk = Desk(self.settings, self.pool)
        self.bell = Bell(
            self.settings.direct_database_url,
            {
                "catalogue_changed": self._catalogue_changed,
                "sensor_created": self.catalogue.forget_unknown,
                "alert_raised": self.hub.ring,
                "shards_moved": self.writer.look_again,
            },
            polled=frozenset({"alert_raised"}),
        )

    def _by_node(self, sensor_ids: list[int]) -> list[list[int]]:
        return self.writer.by_node(sensor_ids)

    def _catalogue_changed(self) -> None:
        self.keys.clear()
        self.catalogue.clear()

    async def start(self) -> None:
        """Open pools and begin the background tasks."""
        await self.pool.open(wait=False)
        await self.reads.start()
        await self.desk.start()
        self.writer.start()
        self.hub.start()
        self.bell.start()
        self.limiter.start()

    async def stop(self) -> None:
        """Finish what was accepted, then close."""
        await self.writer.stop()
        await self.bell.stop()
        await self.bells.stop()
        await self.hub.stop()
        await self.probe.stop()
        await self.limiter.stop()
        await self.desk.stop()
        await self.cold.close()
        await self.reads.stop()
        await self.pool.close()
