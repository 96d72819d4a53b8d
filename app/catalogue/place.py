"""Puts sites and sensors into a tenant: new ones are made, known ones changed."""

from psycopg import AsyncConnection

from app.db.queries import queries
from app.errors import CommandError

SQL = queries("catalogue")


async def put_site(
    connection: AsyncConnection,
    *,
    tenant_id: int,
    code: str,
    title: str,
    region: str | None = None,
    latitude: float | None = None,
    longitude: float | None = None,
) -> int:
    """The site's id. What is None keeps its value; latitude and longitude in degrees, WGS 84."""
    cursor = await connection.execute(
        SQL["site_put"],
        {
            "tenant_id": tenant_id,
            "code": code,
            "title": title,
            "region": region,
            "latitude": latitude,
            "longitude": longitude,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def put_sensor(
    connection: AsyncConnection,
    *,
    tenant_id: int,
    uid: str,
    title: str | None = None,
    site: str | None = None,
    status: str | None = None,
    interval_seconds: float | None = None,
) -> int:
    """The sensor's id. What is None keeps its value. Raises CommandError for an unknown site."""
    site_id = None
    if site is not None:
        cursor = await connection.execute(
            SQL["site_by_code"], {"tenant_id": tenant_id, "code": site}
        )
        row = await cursor.fetchone()
        if row is None:
            raise CommandError(
                f"--site: the tenant has no site {site!r}; create it with `headwater site create`"
            )
        site_id = row[0]
    cursor = await connection.execute(
        SQL["sensor_put"],
        {
            "tenant_id": tenant_id,
            "site_id": site_id,
            "uid": uid,
            "title": title,
            "status": status,
            "interval_seconds": interval_seconds,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
