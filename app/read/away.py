"""Says which of the sensors that were asked for lie on a node that is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from app.db.away import node_away
from app.db.pool import Connection
from app.errors import NodeUnavailable
from app.identity.permission import Principal
from app.problem import to_problem
from app.read.lookup import sensors_named
from app.read.parameter import tenant_scope
from app.services import Services


@asynccontextmanager
async def naming_sensors(
    services: Services, caller: Principal, tenant: str | None, uids: list[str]
) -> AsyncIterator[None]:
    """Around a read of these sensors (none: of all). Raises NodeUnavailable with their names."""
    try:
        yield
    except psycopg.Error as exc:
        address, places = node_away(exc), services.writer.places
        if address is None or places is None or not uids:
            raise
        problem = to_problem(exc)

        async def find(connection: Connection) -> dict[int, str]:
            tenant_id = await tenant_scope(connection, caller, tenant)
            found = await sensors_named(connection, tenant_id=tenant_id, uids=uids)
            return {sensor.sensor_id: sensor.uid for sensor in found}

        names = await services.reads.run(find)
        there = [names[number] for number in places.on_node(list(names), *address)]
        raise NodeUnavailable(
            f"{problem.detail} Of the sensors asked for there: {', '.join(map(repr, there[:20]))}.",
            headers=problem.headers,
            sensors=there,
        ) from exc
