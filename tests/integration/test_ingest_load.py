"""Many at once: everybody gets their own verdict, and too much is refused, not lost."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from fix_database import Server
from fix_server import Api, Tenant, now, row

START = int(datetime.now(UTC).timestamp()) - 3_000


def post_all(api: Api, requests: list[tuple[Tenant, Any]]) -> list[httpx.Response]:
    """All at once, each on a connection of its own; the answers in order."""

    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(requests))
        async with httpx.AsyncClient(base_url=api.url, timeout=30, limits=limits) as client:
            posts = (
                client.post("/api/v1/readings", json=body, headers=tenant.headers())
                for tenant, body in requests
            )
            return list(await asyncio.gather(*posts))

    for tenant in {tenant for tenant, _ in requests}:
        tenant.key()
    return asyncio.run(run())


def verdict(answer: httpx.Response) -> str:
    """The only reading's verdict."""
    said = answer.json()
    (word,) = [name for name in ("stored", "duplicate", "conflict", "rejected") if said[name]]
    assert (said[word], said["sent"]) == (1, 1)
    return word


def test_200_at_once_get_each_their_own_verdict(tenant: Tenant) -> None:
    assert tenant.post([row(1, START + i) for i in range(0, 200, 10)]).json()["stored"] == 20
    kinds: list[Callable[[int], Any]] = [
        lambda i: row(1, START + i),  # there already where i is 0, 10, 20 …
        lambda i: row(1, START + i),
        lambda i: row(2, START + i // 10 * 10),
        lambda i: row("x", START + i),
        lambda i: row(1, START + i, sensor="nobody"),
        lambda i: row(1, START + i),
    ]
    requests = [(tenant, kinds[i % 10 if i % 10 < 6 else 0](i)) for i in range(200)]
    answers = post_all(tenant.api, requests)
    expected = ["duplicate", "stored", "conflict", "rejected", "rejected", *["stored"] * 5] * 20
    assert [verdict(answer) for answer in answers] == expected
    assert [stored[3] for stored in tenant.stored()] == [1.0] * (20 + 6 * 20)


def test_the_same_reading_by_100_at_once_is_stored_once(tenant: Tenant) -> None:
    ts = now()
    answers = post_all(tenant.api, [(tenant, row(7, ts))] * 100)
    assert sorted(verdict(answer) for answer in answers) == ["duplicate"] * 99 + ["stored"]
    assert len(tenant.stored()) == 1


def test_different_values_at_once_agree_on_one(tenant: Tenant) -> None:
    ts = now()
    answers = post_all(tenant.api, [(tenant, row(value, ts)) for value in range(50)])
    verdicts = [verdict(answer) for answer in answers]
    assert sorted(verdicts) == ["conflict"] * 49 + ["stored"]
    assert [stored[3] for stored in tenant.stored()] == [verdicts.index("stored")]


def test_neighbours_of_other_tenants_are_not_harmed(api: Api) -> None:
    tenants = [api.make_tenant() for _ in range(4)]
    for tenant in tenants:
        tenant.make_sensor("s1")
    body = [row(7, START + i) for i in range(500)]
    assert tenants[0].post(body).json()["stored"] == 500
    bodies: list[Any] = [
        body,
        [*body, *body],
        [*body, row("x")],
        [row(7, START + i) for i in range(2_000)],
    ]
    answers = post_all(api, [*zip(tenants, bodies, strict=True)] * 2)
    for tenant, total in zip(tenants, (500, 500, 500, 2_000), strict=True):
        assert len(tenant.stored()) == total
    for said in (answer.json() for answer in answers):
        assert said["sent"] == said["stored"] + said["duplicate"] + said["rejected"]
        assert said["conflict"] == 0
    stored = [answer.json()["stored"] for answer in answers]
    assert [stored[i] + stored[i + 4] for i in range(4)] == [0, 500, 500, 2_000]


def test_overlapping_big_batches_at_once_lose_and_double_nothing(tenant: Tenant) -> None:
    def body(first: int) -> Any:
        ts = list(range(START + first, START + first + 1_500))
        return {
            "sensor": "s1",
            "ts": ts[::-1] if first % 200 else ts,
            "metrics": {"ph": [7.0] * 1_500},
        }

    answers = post_all(tenant.api, [(tenant, body(100 * i)) for i in range(8)])
    assert [answer.status_code for answer in answers] == [200] * 8
    said = [answer.json() for answer in answers]
    assert sum(item["stored"] for item in said) == len(tenant.stored()) == 2_200
    assert sum(item["duplicate"] for item in said) == 8 * 1_500 - 2_200


def test_a_full_queue_is_refused_with_a_time_to_retry_and_recovers(
    serve: Callable[..., Api],
) -> None:
    api = serve(INGEST_QUEUE_READINGS="10", INGEST_WRITERS="1")
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    assert tenant.post(row()).status_code == 200
    with psycopg.connect(api.superuser_url) as blocker:
        blocker.execute("lock table telemetry.reading in access exclusive mode")
        batches = [(tenant, [row(7, START + 10 * i + j) for j in range(4)]) for i in range(30)]

        async def release() -> None:
            await asyncio.sleep(1)
            await asyncio.to_thread(blocker.rollback)

        async def run() -> tuple[list[httpx.Response], None]:
            return await asyncio.gather(asyncio.to_thread(post_all, api, batches), release())

        answers, _ = asyncio.run(run())
    stored = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(stored) + len(refused) == 30
    assert 2 <= len(stored) <= 4  # one being written, as many waiting as fit
    for answer in refused:
        assert answer.json()["type"] == "/problems/unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        assert "send again later" in answer.json()["detail"]
    assert len(tenant.stored()) == 1 + 4 * len(stored)
    retried = [tenant.post(body).json() for _, body in batches]
    assert sum(said["stored"] + said["duplicate"] for said in retried) == 120
    assert len(tenant.stored()) == 121
    big = [row(7, START - 100 - i) for i in range(50)]
    assert tenant.post(big).json()["stored"] == 50  # more than the queue, but nothing waits


def test_what_was_accepted_is_written_before_the_process_ends(serve: Callable[..., Api]) -> None:
    api = serve(INGEST_WRITERS="2")
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    tenant.post(row(1, now()))
    with psycopg.connect(api.superuser_url) as blocker:
        blocker.execute("lock table telemetry.reading in access exclusive mode")

        async def stop() -> float:
            await asyncio.sleep(0.5)
            began = time.monotonic()
            assert api.process is not None
            api.process.terminate()
            await asyncio.sleep(0.5)
            await asyncio.to_thread(blocker.rollback)
            await asyncio.to_thread(api.process.wait, 20)
            return time.monotonic() - began

        async def run() -> tuple[httpx.Response, float]:
            return await asyncio.gather(asyncio.to_thread(tenant.post, row(7)), stop())

        answer, seconds = asyncio.run(run())
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)
    assert len(tenant.stored()) == 2
    assert seconds < 8  # it waits ten for a writer that does not end
    latest = api.sql(
        "select value from telemetry.latest_reading join telemetry.sensor using (sensor_id)"
    )
    assert latest == [(7,)]


SHORT_TWICE = """
create sequence public.shortage;
create function public.tg_shortage() returns trigger language plpgsql security definer as $$
begin
    if nextval('public.shortage') <= 2 then
        raise exception 'out of shared memory' using errcode = 'out_of_memory';
    end if;
    return new;
end;
$$;
create trigger shortage before insert on telemetry.reading
for each row execute function public.tg_shortage();
"""


def test_a_server_that_is_short_of_locks_for_a_moment_is_waited_for(
    serve: Callable[..., Api], pg_server: Server
) -> None:
    if pg_server.is_distributed:
        pytest.skip("a distributed table takes no trigger from outside")
    api = serve()
    tenant = api.make_tenant()
    tenant.make_sensor("s1")
    assert tenant.post(row(1, START)).status_code == 200
    with psycopg.connect(api.superuser_url, autocommit=True) as connection:
        connection.execute(SHORT_TWICE)
        answer = tenant.post(row(2, START + 1))
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)
    assert len(tenant.stored()) == 2
    assert api.sql("select last_value from public.shortage") == [(3,)]
    assert "53200" in api.log.read_text(), "the log does not say why it waited"
