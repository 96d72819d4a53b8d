"""What GET /api/status says: asked of each part at the moment, never remembered for longer than a second.

The parts are asked at the same time, each with a time-out, so that the answer comes within two seconds
whatever is down. The probe has a connection of its own: the pool may be busy with long reads.
unhealthy: readings can't be stored or read (database down); degraded: something else is missing.
"""

import asyncio
import time
from typing import Literal

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.db.pool import connect
from app.db.queries import queries
from app.db.reads import Standing
from app.local.doctor import Offer, findings, read_offer
from app.local.doctor_nodes import NodeOffer, node_findings, read_nodes
from app.ops.moves import REMEDY, Move, cut_off, moves_unfinished
from app.settings import Settings

SQL = queries("ops")

CHECK_SECONDS = 1.5
KEEP_SECONDS = 1.0
OFFER_SECONDS = 300.0
NODES_SECONDS = 5.0
NODE_SECONDS = 0.8  # less than CHECK_SECONDS: a node that hangs must not hide the others
HEARTBEAT_SECONDS = 30.0

Connected = Literal["connected", "disconnected"]


class HeartbeatAge(msgspec.Struct, frozen=True, kw_only=True):
    """When a kind of process last gave a sign of life."""

    process: str
    age_seconds: float


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """This API process's road into the database."""

    queue_readings: int
    queue_limit: int
    writers: int
    """Connections of writers that are up; they are made when there is something to write."""
    writers_wanted: int


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """This API process's live push."""

    status: Literal["running", "waiting", "stopped"]
    """waiting: no doorbell from the database, it looks again as soon as that is back."""
    subscribers: int


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """Another node of a distributed database."""

    node: int
    """Its number; 0 is the coordinator."""
    address: str
    """Host and port, as the other nodes know it."""
    db: Connected
    shards: int
    """Groups of shards that lie there: the readings of so many parts of all sensors."""
    is_aside: bool
    """Not told yet of what changed while it was away; nothing moves to it or from it."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the platform is, part by part."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    db: Connected
    db_read: Literal["not configured", "connected", "lagging", "disconnected"]
    """The replica for reads; unless it is connected they go to the database itself."""
    db_read_lag_seconds: float | None
    """How far the replica is behind."""
    redis: Literal["connected", "disconnected", "not configured"]
    rate_limits: Literal["redis", "in-process"]
    """Where this API process keeps the token buckets; in-process: each process has its own."""
    workers: Literal["running", "stopped"]
    """The background jobs, by their heartbeat."""
    workers_age_seconds: float | None
    live: Live
    ingest: Ingest
    server: str | None
    """PostgreSQL's version."""
    edition: str | None
    """apache or community: what TimescaleDB offers here."""
    timescaledb: str | None
    citus: str | None
    nodes: list[NodeState]
    """The other nodes; none where one server holds everything."""
    moves: list[Move]
    """Groups of shards that are on the way to another node."""
    dangers: list[str]
    """Settings of a server that endanger data or that server; `headwater doctor` says more."""
    reasons: list[str]
    """Why the status is not healthy."""


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """What the database said."""

    offer: Offer
    nodes: list[NodeOffer]
    moves: list[Move]
    workers_age_seconds: float | None


async def heartbeat_ages(connection: AsyncConnection) -> list[HeartbeatAge]:
    """Every kind of process that ever gave a sign of life."""
    async with connection.cursor(row_factory=class_row(HeartbeatAge)) as cursor:
        await cursor.execute(SQL["heartbeat_ages"])
        return await cursor.fetchall()


class Probe:
    """Asks the database and Redis; one question at a time, shared by whoever asks meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._connection: AsyncConnection | None = None
        self._asking: asyncio.Task[Database | None] | None = None
        self._redis = (
            Redis.from_url(
                settings.redis_url,
                socket_timeout=CHECK_SECONDS,
                socket_connect_timeout=CHECK_SECONDS,
            )
            if settings.redis_url
            else None
        )
        self._offer: tuple[float, Offer] | None = None
        self._nodes: tuple[float, list[NodeOffer]] = (-60.0, [])
        self._answer: tuple[float, Database | None, bool | None] = (-60.0, None, None)

    async def stop(self) -> None:
        """Close the connections."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._hang_up()
        if self._redis is not None:
            await self._redis.aclose()

    async def ask(self) -> tuple[Database | None, bool | None]:
        """The database (None: down) and whether Redis answers (None: not configured)."""
        async with self._lock:
            asked_at, database, redis = self._answer
            if time.monotonic() - asked_at > KEEP_SECONDS:
                database, redis = await asyncio.gather(self._database(), self._redis_answers())
                self._answer = (time.monotonic(), database, redis)
            return database, redis

    async def _database(self) -> Database | None:
        """What it says in time; a question that takes longer is left to end by itself."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_database(), name="status")
        done, _ = await asyncio.wait({self._asking}, timeout=CHECK_SECONDS)
        return self._asking.result() if done else None

    async def _ask_database(self) -> Database | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await connect(
                    self._settings.database_url,
                    application="headwater-status",
                    patience=CHECK_SECONDS,
                )
            ages = {row.process: row.age_seconds for row in await heartbeat_ages(self._connection)}
            offer = await self._read_offer(self._connection)
            return Database(
                offer=offer,
                nodes=await self._read_nodes(self._connection, offer),
                moves=await moves_unfinished(self._connection),
                workers_age_seconds=ages.get("jobs"),
            )
        except (psycopg.Error, OSError):
            await self._hang_up()
            self._offer = None
            return None

    async def _read_offer(self, connection: AsyncConnection) -> Offer:
        now = time.monotonic()
        if self._offer is None or now - self._offer[0] > OFFER_SECONDS:
            self._offer = (now, await read_offer(connection))
        return self._offer[1]

    async def _read_nodes(self, connection: AsyncConnection, offer: Offer) -> list[NodeOffer]:
        now = time.monotonic()
        if now - self._nodes[0] > NODES_SECONDS:
            url = self._settings.database_url
            self._nodes = (now, await read_nodes(connection, offer, url, seconds=NODE_SECONDS))
        return self._nodes[1]

    async def _redis_answers(self) -> bool | None:
        if self._redis is None:
            return None
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return bool(await self._redis.ping())
        except (TimeoutError, RedisError, OSError):
            return False

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def judge(
    database: Database | None,
    redis: bool | None,
    *,
    live: Live,
    ingest: Ingest,
    replica: Standing,
    rate_limits: Literal["redis", "in-process"],
    version: str,
) -> Status:
    """From what the parts said to one word and the reasons for it."""
    reasons = []
    age = database.workers_age_seconds if database else None
    is_working = age is not None and age < HEARTBEAT_SECONDS
    if database is None:
        reasons.append("database: can't be reached; nothing can be stored or read")
    else:
        if not is_working:
            reasons.append("workers: no sign of life for 30 s; start `headwater jobs`")
        reasons += [
            f"node {node.number}: can't be reached; its sensors' readings can't be stored or read"
            for node in database.nodes
            if node.offer is None
        ]
        reasons += [f"move: {text}; {REMEDY}" for text in cut_off(database.moves)]
        if live.status != "running":
            reasons.append(
                "live: alerts are pushed late; the doorbell's connection is down, or leads through "
                "a pooler (set DIRECT_DATABASE_URL)"
            )
        if ingest.writers == 0 and ingest.queue_readings:
            reasons.append("ingest: readings wait and no writer is connected")
    if replica.state in ("lagging", "disconnected"):
        reasons.append(f"db_read: the replica is {replica.state}; reads go to the database itself")
    if redis is False:
        reasons.append("redis: can't be reached; the system works on without it, more slowly")
    if redis is not None and rate_limits == "in-process":
        reasons.append("rate limits: Redis does not answer; each process counts, and permits less")
    offer = database.offer if database else None
    nodes = [node for node in database.nodes if node.offer] if database else []
    dangers = [
        f"{found.subject}: {found.detail}"
        for found in ([*findings(offer), *node_findings(offer, nodes)] if offer else [])
        if found.level == "danger"
    ]
    status: Literal["healthy", "degraded", "unhealthy"] = "degraded" if reasons else "healthy"
    return Status(
        status="unhealthy" if database is None else status,
        version=version,
        db="connected" if database else "disconnected",
        db_read=replica.state,
        db_read_lag_seconds=replica.lag_seconds,
        redis="not configured" if redis is None else "connected" if redis else "disconnected",
        rate_limits=rate_limits,
        workers="running" if is_working else "stopped",
        workers_age_seconds=None if age is None else round(age, 1),
        live=live,
        ingest=ingest,
        server=offer.server_version if offer else None,
        edition=offer.edition if offer else None,
        timescaledb=offer.timescaledb_version if offer else None,
        citus=offer.citus_version if offer else None,
        nodes=[
            NodeState(
                node=node.number,
                address=node.address,
                db="connected" if node.offer else "disconnected",
                shards=node.shards,
                is_aside=node.is_aside,
            )
            for node in (database.nodes if database else [])
        ],
        moves=database.moves if database else [],
        dangers=dangers,
        reasons=reasons,
    )
