"""The demo tenant: stations of the bundled data, thresholds, keys; the last run's readings go.

Only the tenant `demo` is touched. It runs as the owner, because nobody else may delete readings.
"""

from collections.abc import Sequence

import msgspec
from psycopg import AsyncConnection

from app.catalogue.place import put_sensor, put_site
from app.db.queries import queries
from app.demo.expected import Rule
from app.identity.key import create_key
from app.identity.tenant import put_tenant

SQL = queries("demo")
TENANT = "demo"


class Station(msgspec.Struct, frozen=True):
    """A sensor of the bundled data and where it is (degrees, WGS 84, to about a kilometre)."""

    uid: str
    site: str
    title: str
    region: str
    latitude: float
    longitude: float


STATIONS = (
    Station("nerrs-apacpwq", "cat-point", "Cat Point", "Apalachicola Bay", 29.702, -84.880),
    Station("nerrs-apadbwq", "dry-bar", "Dry Bar", "Apalachicola Bay", 29.675, -85.058),
    Station("nerrs-elksmwq", "south-marsh", "South Marsh", "Elkhorn Slough", 36.818, -121.739),
    Station("nerrs-gndblwq", "bangs-lake", "Bangs Lake", "Grand Bay", 30.357, -88.463),
    Station(
        "usgs-11455478", "decker-island", "Decker Island", "Sacramento River", 38.093, -121.736
    ),
)


class Keys(msgspec.Struct, frozen=True):
    """The demo's API keys."""

    tenant_id: int
    gateway: str
    """Writes readings."""
    operator: str
    """Reads and decides alerts."""


async def seed(connection: AsyncConnection, rules: Sequence[Rule]) -> Keys:
    """Bring the demo tenant to its beginning; new keys."""
    async with connection.transaction():
        tenant_id = await put_tenant(
            connection, slug=TENANT, title="Demonstration", is_auto_register=False
        )
        scope = {"tenant_id": tenant_id}
        for name in ("alerts", "thresholds", "keys", "log", "readings", "latest"):
            await connection.execute(SQL[f"demo_forget_{name}"], scope)
        for station in STATIONS:
            await put_site(
                connection,
                tenant_id=tenant_id,
                code=station.site,
                title=station.title,
                region=station.region,
                latitude=station.latitude,
                longitude=station.longitude,
            )
            await put_sensor(
                connection,
                tenant_id=tenant_id,
                uid=station.uid,
                title=station.title,
                site=station.site,
                interval_seconds=900,
            )
        uids = {station.uid for station in STATIONS}
        for rule in rules:
            if rule.sensor is None or rule.sensor in uids:
                row = msgspec.structs.asdict(rule) | scope
                await connection.execute(SQL["demo_threshold_put"], row)
    # after the commit: on a distributed server a key's own tenant would still be held elsewhere
    return Keys(
        tenant_id=tenant_id,
        gateway=await create_key(
            connection, tenant_id=tenant_id, role="integration", title="demo: gateway"
        ),
        operator=await create_key(
            connection, tenant_id=tenant_id, role="operator", title="demo: operator"
        ),
    )
