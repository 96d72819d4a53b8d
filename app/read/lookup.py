"""From the names in a filter to identifiers; an unknown name is a problem, never an empty answer.

Sensors of a tenant or of sites are named one by one where they are few. A join would do, but a rollup's
newest part is aggregated on the fly, and a join's filter comes after that: the question of one site would
aggregate what all sensors have sent since the last refresh.
"""

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from app.db.queries import queries
from app.errors import BadRequest, NotFound
from app.read.series import Selection

SQL = queries("read")

MOST_IDS = 1_000
"""More are left to the join: each costs the planner 10 us."""


class SensorName(msgspec.Struct, frozen=True, kw_only=True):
    """A sensor that a filter names."""

    uid: str
    sensor_id: int


class SiteName(msgspec.Struct, frozen=True, kw_only=True):
    """A site that a filter names."""

    code: str
    site_id: int


class MetricName(msgspec.Struct, frozen=True, kw_only=True):
    """A metric that a filter names by code or alias."""

    name: str
    metric_id: int
    code: str
    unit: str


async def tenant_id_by_slug(connection: AsyncConnection, *, slug: str) -> int | None:
    """The tenant's identifier."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(SQL["tenant_id_by_slug"], {"slug": slug})
        found = await cursor.fetchone()
        return None if found is None else int(found)


async def sensors_named(
    connection: AsyncConnection, *, tenant_id: int | None, uids: list[str]
) -> list[SensorName]:
    """Sensors by uid; in several tenants where the tenant is None."""
    async with connection.cursor(row_factory=class_row(SensorName)) as cursor:
        await cursor.execute(SQL["sensors_named"], {"tenant_id": tenant_id, "uids": uids})
        return await cursor.fetchall()


async def sensors_within(
    connection: AsyncConnection, *, tenant_id: int | None, site_ids: list[int] | None, count: int
) -> list[int]:
    """The first sensors of a tenant or of sites."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        args = {"tenant_id": tenant_id, "site_ids": site_ids, "count": count}
        await cursor.execute(SQL["sensors_within"], args, prepare=False)
        return await cursor.fetchall()


async def sites_named(
    connection: AsyncConnection, *, tenant_id: int | None, codes: list[str]
) -> list[SiteName]:
    """Sites by code; in several tenants where the tenant is None."""
    async with connection.cursor(row_factory=class_row(SiteName)) as cursor:
        await cursor.execute(SQL["sites_named"], {"tenant_id": tenant_id, "codes": codes})
        return await cursor.fetchall()


async def metrics_named(connection: AsyncConnection, *, names: list[str]) -> list[MetricName]:
    """Metrics by code or alias, in lower case."""
    async with connection.cursor(row_factory=class_row(MetricName)) as cursor:
        await cursor.execute(SQL["metrics_named"], {"names": names})
        return await cursor.fetchall()


async def selected(
    connection: AsyncConnection,
    tenant_id: int | None,
    *,
    sensors: list[str],
    sites: list[str],
    metrics: list[str],
) -> Selection:
    """What the named filters select; none named: everything. Raises NotFound, BadRequest."""
    named = await sensor_ids(connection, tenant_id, sensors)
    places = await site_ids(connection, tenant_id, sites)
    if named is None and (tenant_id is not None or places is not None):
        found = await sensors_within(
            connection, tenant_id=tenant_id, site_ids=places, count=MOST_IDS + 1
        )
        named = found if len(found) <= MOST_IDS else None
    return Selection(
        tenant_id=tenant_id,
        sensor_ids=named,
        site_ids=places,
        metric_ids=await metric_ids(connection, metrics),
    )


async def sensor_ids(
    connection: AsyncConnection, tenant_id: int | None, uids: list[str]
) -> list[int] | None:
    """Identifiers of the named sensors; None where none is named. Raises NotFound, BadRequest."""
    if not uids:
        return None
    found = await sensors_named(connection, tenant_id=tenant_id, uids=_storable(uids))
    known = [row.uid for row in found]
    for uid in uids:
        if uid not in known:
            raise NotFound(
                f"sensor: there is no sensor {uid[:128]!r}; GET /api/v1/sensors lists them."
            )
        if known.count(uid) > 1:
            raise BadRequest(f"sensor: {uid[:128]!r} is in several tenants; add tenant=….")
    return [row.sensor_id for row in found]


async def site_ids(
    connection: AsyncConnection, tenant_id: int | None, codes: list[str]
) -> list[int] | None:
    """Identifiers of the named sites; None where none is named. Raises NotFound, BadRequest."""
    if not codes:
        return None
    found = await sites_named(connection, tenant_id=tenant_id, codes=_storable(codes))
    known = [row.code for row in found]
    for code in codes:
        if code not in known:
            raise NotFound(f"site: there is no site {code[:128]!r}; GET /api/v1/sites lists them.")
        if known.count(code) > 1:
            raise BadRequest(f"site: {code[:128]!r} is in several tenants; add tenant=….")
    return [row.site_id for row in found]


async def metric_ids(connection: AsyncConnection, names: list[str]) -> list[int] | None:
    """Identifiers of the named metrics; None where none is named. Raises NotFound."""
    if not names:
        return None
    found = {row.name: row.metric_id for row in await find_metrics(connection, names)}
    return sorted(set(found.values()))


async def find_metrics(connection: AsyncConnection, names: list[str]) -> list[MetricName]:
    """The named metrics. Raises NotFound."""
    lower = [name.lower() for name in names]
    found = await metrics_named(connection, names=_storable(lower))
    known = {row.name for row in found}
    for name in names:
        if name.lower() not in known:
            raise NotFound(
                f"metric: there is no metric {name[:60]!r}; GET /api/v1/metrics lists them."
            )
    return found


def _storable(texts: list[str]) -> list[str]:
    """A NUL can't be in a text column, so nothing there has it in its name."""
    return [text for text in texts if "\0" not in text]
