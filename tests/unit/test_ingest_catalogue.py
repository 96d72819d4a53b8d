"""A change of the catalogue in the middle of a look-up: nothing old stays, nothing known is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.errors import Unauthorized
from app.identity.key import KeyRing, KeyRow, digest
from app.ingest import catalogue as module
from app.ingest.catalogue import Catalogue, Sensor


class Pool:
    """Stands for the database: runs `meanwhile` during each query and answers with `rows`."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.queries = 0
        self.meanwhile: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Pool"]:
        yield self

    @asynccontextmanager
    async def cursor(self, **_: Any) -> AsyncIterator["Pool"]:
        yield self

    async def execute(self, *_: Any) -> None:
        self.queries += 1
        self.meanwhile()

    async def fetchall(self) -> list[Any]:
        return self.rows


def sensor(uid: str, sensor_id: int) -> Sensor:
    return Sensor(uid=uid, sensor_id=sensor_id, status="active", site_id=None)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    pool = Pool([])

    async def sensors_by_uid(connection: Pool, *, tenant_id: int, uids: list[str]) -> list[Sensor]:
        await connection.execute()
        return [row for row in connection.rows if row.uid in uids]

    monkeypatch.setattr(module, "sensors_by_uid", sensors_by_uid)
    return pool


async def look_up(catalogue: Catalogue, *uids: str) -> list[int | None]:
    found, _ = await catalogue.sensors(1, list(uids), is_auto_register=False)
    return [None if item is None else item.sensor_id for item in found]


async def test_a_change_during_a_look_up_forgets_nobody_who_was_known(pool: Pool) -> None:
    catalogue = Catalogue(pool)  # type: ignore[arg-type]
    pool.rows = [sensor("a", 1), sensor("b", 2)]
    assert await look_up(catalogue, "a") == [1]
    pool.meanwhile = catalogue.clear
    assert await look_up(catalogue, "a", "b") == [1, 2]


async def test_what_was_read_during_a_change_is_read_again(pool: Pool) -> None:
    catalogue = Catalogue(pool)  # type: ignore[arg-type]
    pool.rows, pool.meanwhile = [sensor("a", 1)], catalogue.clear
    assert await look_up(catalogue, "a") == [1]
    pool.rows, pool.meanwhile = [], lambda: None
    assert await look_up(catalogue, "a") == [None]


async def test_known_and_unknown_sensors_cost_one_query(pool: Pool) -> None:
    catalogue = Catalogue(pool)  # type: ignore[arg-type]
    pool.rows = [sensor("a", 1)]
    for _ in range(3):
        assert await look_up(catalogue, "a", "nobody", "", "x" * 129, "\0") == [1] + [None] * 4
    assert pool.queries == 1


async def test_the_memory_of_made_up_uids_is_bounded(pool: Pool) -> None:
    catalogue = Catalogue(pool, size=100)  # type: ignore[arg-type]
    for number in range(1_000):
        await look_up(catalogue, f"u{number}")
    assert len(catalogue._memory.unknown) <= 101


async def test_a_key_revoked_while_it_is_looked_up_is_not_remembered() -> None:
    known = {
        "secret_sha256": digest("hw_x"),
        "name": "k",
        "api_key_id": 1,
        "tenant_id": 1,
        "role": "device",
        "is_auto_register": False,
    }
    row = KeyRow(**dict.fromkeys(KeyRow.__struct_fields__) | known)  # type: ignore[arg-type]
    pool = Pool([row])
    ring = KeyRing(pool)  # type: ignore[arg-type]
    pool.meanwhile = ring.clear
    assert (await ring.principal("hw_x")).api_key_id == 1
    pool.rows, pool.meanwhile = [], lambda: None
    with pytest.raises(Unauthorized):
        await ring.principal("hw_x")


async def test_a_wrong_key_costs_one_query_and_their_number_is_bounded() -> None:
    pool = Pool([])
    ring = KeyRing(pool, size=100)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await ring.principal("hw_x")
    assert pool.queries == 1
    for number in range(1_000):
        with pytest.raises(Unauthorized):
            await ring.principal(f"hw_{number}")
    assert len(ring._known) <= 100


async def test_a_thousand_senders_that_come_at_once_cost_two_queries(pool: Pool) -> None:
    uids = [f"s{number}" for number in range(1_000)]
    pool.rows = [sensor(uid, number) for number, uid in enumerate(uids)]
    catalogue = Catalogue(pool)  # type: ignore[arg-type]
    found = await asyncio.gather(*(look_up(catalogue, uid) for uid in uids))
    assert found == [[number] for number in range(1_000)]
    assert pool.queries <= 2
