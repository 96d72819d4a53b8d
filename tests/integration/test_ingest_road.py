"""Both roads do the same: on a distributed server, with a batch that lies on every shard; on one, too."""

from collections.abc import Callable

import pytest
from fix_server import Api, Tenant, row

SENSORS = [f"s{number}" for number in range(40)]
DAY = "2026-06-01"


@pytest.fixture(params=["direct", "coordinator"])
def tenant(request: pytest.FixtureRequest, serve: Callable[..., Api]) -> Tenant:
    made = serve(INGEST_ROAD=request.param).make_tenant(is_auto_register=True)
    made.make_threshold("ph", "high", 8)
    return made


def test_every_reading_is_stored_judged_and_known_again(tenant: Tenant) -> None:
    body = [
        row(9 if number % 4 == 0 else 7, f"{DAY}T00:{minute:02}:00Z", sensor)
        for minute in range(3)
        for number, sensor in enumerate(SENSORS)
    ]
    first = tenant.post(body)
    assert first.status_code == 200, first.text
    assert first.json()["stored"] == len(body)
    again = tenant.post([*body, *(row(7, f"{DAY}T01:00:00Z", sensor) for sensor in SENSORS)])
    assert (again.json()["stored"], again.json()["duplicate"]) == (len(SENSORS), len(body))
    assert len(tenant.stored()) == len(body) + len(SENSORS)
    episodes = tenant.api.sql(
        "select s.uid, e.reading_count from alert.episode as e"
        " join telemetry.sensor as s on s.sensor_id = e.sensor_id where e.tenant_id = %s",
        tenant.tenant_id,
    )
    assert sorted(episodes) == sorted((sensor, 3) for sensor in SENSORS[::4])
