"""The hub on a database, without HTTP: every event once, whatever the order of commits and of answers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from fix_database import Database
from psycopg.pq.abc import PGresult
from psycopg_pool import AsyncConnectionPool

from app.db.copying import commit
from app.db.pool import Connection, connect
from app.live.hub import Hub
from app.live.subscription import Filter, Subscription, TooSlowError


class Outbox:
    """A hub and a database whose outbox the test writes by hand."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self.database = database
        self.hub = hub
        self.tenant_id, self.sensor_id, self.episode_id = self._episode("one")
        database.execute("select alert.collect()")  # that it was raised is told before we listen

    def _episode(self, slug: str) -> tuple[int, int, int]:
        found = self.database.execute(
            f"""
            with t as (
                insert into identity.tenant (slug, title) values ('{slug}', '') returning tenant_id
            ), s as (
                insert into telemetry.sensor (tenant_id, uid) select tenant_id, 's1' from t
                returning sensor_id, tenant_id
            )
            insert into alert.episode (
                tenant_id, sensor_id, metric_id, severity, side, state, limit_value, opened_at,
                last_at, evaluated_at, peak, reading_count
            )
            select tenant_id, sensor_id, 1, 'warning', 'high', 'open', 8, now(), now(), now(), 9, 1
            from s
            returning tenant_id, sensor_id, episode_id
            """
        )
        tenant_id, sensor_id, episode_id = found[0]
        assert isinstance(tenant_id, int) and isinstance(sensor_id, int)
        assert isinstance(episode_id, int)
        return tenant_id, sensor_id, episode_id

    def insert(self, connection: psycopg.Connection | None = None, kind: str = "raised") -> int:
        """An event; committed at once unless a connection is given."""
        statement = (
            "insert into alert.outbox (tenant_id, sensor_id, episode_id, kind, severity, ts, value)"
            f" values ({self.tenant_id}, {self.sensor_id}, {self.episode_id}, '{kind}', 'warning',"
            " now(), 9)"
            " returning outbox_id"
        )
        if connection is None:
            ((number,),) = self.database.execute(statement)
        else:
            ((number,),) = connection.execute(statement).fetchall()  # type: ignore[arg-type]
        assert isinstance(number, int)
        return number


@asynccontextmanager
async def outbox_of(database: Database) -> AsyncIterator[Outbox]:
    async with AsyncConnectionPool(database.url("headwater_app"), min_size=1, max_size=2) as pool:
        hub = Hub(pool)
        hub.start()
        try:
            yield Outbox(database, hub)
        finally:
            await hub.stop()


async def told(hub: Hub, subscription: Subscription, seconds: float = 0.4) -> list[int]:
    """Ring, and the identifiers of what comes."""
    hub.ring()
    found = []
    while (delivery := await subscription.get(seconds)) is not None:
        found.append(delivery.outbox_id)
    return found


async def test_what_was_before_is_not_told(database: Database) -> None:
    async with outbox_of(database) as outbox:
        outbox.insert()
        async with outbox.hub.subscribe(Filter()) as subscription:
            assert await told(outbox.hub, subscription) == []
            number = outbox.insert()
            assert await told(outbox.hub, subscription) == [number]
            assert await told(outbox.hub, subscription) == []


async def test_an_earlier_number_that_commits_later_is_told_once(database: Database) -> None:
    async with outbox_of(database) as outbox:
        with psycopg.connect(database.url()) as slow, psycopg.connect(database.url()) as undone:
            # one is under way before anybody listens
            first = outbox.insert(slow)
            outbox.insert()
            async with outbox.hub.subscribe(Filter()) as subscription:
                outbox.insert(undone)
                third = outbox.insert(slow)
                fourth = outbox.insert()
                assert await told(outbox.hub, subscription) == [fourth]
                assert outbox.hub.resume < first
                undone.rollback()
                assert await told(outbox.hub, subscription) == []
                slow.commit()
                assert await told(outbox.hub, subscription) == [first, third]
                assert await told(outbox.hub, subscription) == []


async def test_whoever_does_not_read_is_dropped_and_nobody_waits(database: Database) -> None:
    async with outbox_of(database) as outbox:
        hub = outbox.hub
        async with hub.subscribe(Filter(), size=3) as slow, hub.subscribe(Filter()) as quick:
            numbers = [outbox.insert() for _ in range(5)]
            assert await told(hub, quick) == numbers
            with pytest.raises(TooSlowError):
                await slow.get(1)
            assert hub.subscriber_count == 1


async def test_a_lost_connection_loses_no_event(database: Database) -> None:
    async with outbox_of(database) as outbox, outbox.hub.subscribe(Filter()) as subscription:
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'headwater-live' and datname = current_database()"
        )
        number = outbox.insert()
        assert await told(outbox.hub, subscription, seconds=4) == [number]


async def test_more_events_than_a_page_come_all_and_in_order(database: Database) -> None:
    async with (
        outbox_of(database) as outbox,
        outbox.hub.subscribe(Filter(), size=10_000) as subscription,
    ):
        database.execute(
            "insert into alert.outbox (tenant_id, sensor_id, episode_id, kind, severity, ts, value)"
            f" select {outbox.tenant_id}, {outbox.sensor_id}, {outbox.episode_id}, 'raised',"
            " 'warning', now(), n from generate_series(1, 2500) as n"
        )
        found = await told(outbox.hub, subscription, seconds=1)
        assert len(found) == 2500 and found == sorted(set(found))


async def test_a_filter_takes_only_what_is_meant(database: Database) -> None:
    async with outbox_of(database) as outbox:
        hub = outbox.hub
        ours = Filter(tenant_id=outbox.tenant_id, severities=frozenset({"warning"}))
        theirs = Filter(tenant_id=outbox.tenant_id + 1)
        weir = Filter(sites=frozenset({"weir"}))
        async with (
            hub.subscribe(ours) as a,
            hub.subscribe(theirs) as b,
            hub.subscribe(weir) as c,
        ):
            number = outbox.insert()
            assert await told(hub, a) == [number]
            assert await told(hub, b) == await told(hub, c) == []


# what writers ask in the message that commits


@asynccontextmanager
async def writer_of(outbox: Outbox) -> AsyncIterator[Connection]:
    database = outbox.database
    if database.execute("select from pg_extension where extname = 'citus'"):
        pytest.skip("where events have to be collected first, writers ask nothing")
    url = database.url("headwater_ingest")
    async with await connect(url, application="test", patience=10) as connection:
        yield connection


async def asked(connection: Connection, question: str | None) -> PGresult | None:
    """The answer to a question that went with a commit."""
    assert question is not None
    await connection.execute("begin")
    return await commit(connection, question)


async def next_of(subscription: Subscription) -> int | None:
    delivery = await subscription.get(0.2)
    return None if delivery is None else delivery.outbox_id


async def test_a_writers_answer_is_told_at_once_and_the_bell_tells_nothing_twice(
    database: Database,
) -> None:
    async with outbox_of(database) as outbox, writer_of(outbox) as writer:
        hub = outbox.hub
        assert hub.question() is None  # nobody listens
        async with hub.subscribe(Filter()) as subscription:
            question = hub.question()
            number = outbox.insert()
            hub.answer(writer, await asked(writer, question))
            assert await next_of(subscription) == number
            assert await told(hub, subscription) == []
            # the same answer once more, as another writer has it that asked at the same time
            hub.answer(writer, await asked(writer, question))
            assert await next_of(subscription) is None
        assert hub.question() is None


async def test_an_answer_that_comes_late_tells_what_is_new_in_it(database: Database) -> None:
    async with outbox_of(database) as outbox, writer_of(outbox) as writer:
        hub = outbox.hub
        with psycopg.connect(database.url()) as slow:
            async with hub.subscribe(Filter()) as subscription:
                question = hub.question()
                first = outbox.insert(slow)
                second = outbox.insert()
                early = await asked(writer, question)
                third = outbox.insert()
                assert await told(hub, subscription) == [second, third]
                hub.answer(writer, early)
                assert await next_of(subscription) is None and hub.resume < first
                slow.commit()
                hub.answer(writer, await asked(writer, hub.question()))
                assert await next_of(subscription) == first
                assert hub.resume == third
                assert await told(hub, subscription) == []


async def test_an_answer_that_failed_leaves_all_to_the_bell(database: Database) -> None:
    async with (
        outbox_of(database) as outbox,
        writer_of(outbox) as writer,
        outbox.hub.subscribe(Filter()) as subscription,
    ):
        number = outbox.insert()
        outbox.hub.answer(writer, await asked(writer, "select 1 / 0"))
        outbox.hub.answer(writer, await asked(writer, "select 1 as nonsense"))
        assert await next_of(subscription) is None
        assert await told(outbox.hub, subscription) == [number]


async def test_the_answer_is_the_same_event(database: Database) -> None:
    async with outbox_of(database) as outbox, writer_of(outbox) as writer:
        hub = outbox.hub
        async with hub.subscribe(Filter()) as subscription:
            question = hub.question()
            number = outbox.insert()
            hub.answer(writer, await asked(writer, question))
            live = await subscription.get(1)
        (past,) = [one async for one in hub.past(Filter(), since=number - 1)]
    assert live is not None
    assert json.loads(live.text) | {"sent_at": ""} == json.loads(past.text) | {"sent_at": ""}
