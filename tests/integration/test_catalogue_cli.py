"""Sites and sensors from the command line."""

from __future__ import annotations

from typing import Any

import pytest

from app.catalogue.place import put_sensor, put_site
from app.db.pool import connect
from app.errors import CommandError


async def test_a_sensor_is_created_at_its_site_and_changed_in_parts(database: Any) -> None:
    database.execute("insert into identity.tenant (slug, title) values ('t', 'T')")
    async with await connect(database.url("headwater_app"), application="test") as connection:
        await put_site(
            connection,
            tenant_id=1,
            code="weir",
            title="Weir",
            region="north",
            latitude=51.5,
            longitude=7.4,
        )
        await put_sensor(connection, tenant_id=1, uid="a", site="weir", interval_seconds=60)
        await put_sensor(connection, tenant_id=1, uid="a", title="Sonde", status="maintenance")
    assert database.execute(
        "select sensor, title, site, region, status, expected_interval::text from analytics.sensor"
    ) == [("a", "Sonde", "weir", "north", "maintenance", "00:01:00")]


async def test_an_unknown_site_is_named(database: Any) -> None:
    database.execute("insert into identity.tenant (slug, title) values ('t', 'T')")
    async with await connect(database.url("headwater_app"), application="test") as connection:
        with pytest.raises(CommandError, match="--site: the tenant has no site 'nowhere'"):
            await put_sensor(connection, tenant_id=1, uid="a", site="nowhere")
