"""Two tenants with archived, hot, late and doubled readings behind an API, for people's SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from fix_archive import DAY, Archive
from fix_database import Database, Server
from fix_server import Api, Tenant, environment_of
from fix_sql import QUERIES, statements
from sqlglot import exp

from app.query.guard import check
from app.query.names import views

COLD_DAYS = 3
BORDER = DAY + timedelta(days=COLD_DAYS)

SAME = [
    text.replace("{border}", f"{BORDER:%Y-%m-%d %H:%M:%S}+00")
    for _, text in statements("duckdb_queries.txt")
]
ASKED = [text for text in QUERIES + SAME if "reading" in {view.name for view in views(check(text))}]


NOT_PLANNED = "0A000"
"""What Citus says to a statement that it can't spread."""
MOST_NOT_PLANNED = 5


def is_told(text: str) -> bool:
    """Whether the text tells which rows come, wherever it cuts some off."""
    cut = [node.parent for node in check(text).find_all(exp.Limit, exp.Fetch)]
    return all(query is not None and query.args.get("order") for query in cut)


def in_order(text: str, rows: list[Any]) -> list[Any]:
    """In the text's order or in one of our own."""
    return rows if check(text).args.get("order") else sorted(rows, key=str)


class ColdWorld:
    """Days 0 to 2 can be archived (`archive_now`), day 3 and the last hours are hot."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.archive = Archive(database, folder)
        self.environment = environment_of(database) | {
            "ARCHIVE_URL": self.archive.settings.archive_url
        }
        self.mine = self.archive.make_tenant("a")
        self.others = self.archive.make_tenant("b")
        sensors = self.mine + self.others
        for day in range(COLD_DAYS + 1):
            self.archive.fill(sensors, day=day)
        # off the limits of "the last day" and the like, wherever a test's minutes take them
        begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=30, minutes=5)
        self.archive.store(
            {
                (begin + timedelta(minutes=10 * n, microseconds=s * 7 + m), s, m): (n + s / 8, 2)
                for n in range(180)
                for s in sensors
                for m in (1, 2)
            }
        )
        self.archive.all(
            "insert into telemetry.latest_reading (sensor_id, metric_id, ts, value, quality)"
            " select distinct on (sensor_id, metric_id) sensor_id, metric_id, ts, value, quality"
            " from telemetry.reading order by sensor_id, metric_id, ts desc"
        )
        self.archive.all("analyze")

    def serve(self, api: Api) -> None:
        """Ask this API from now on."""
        self.api = api
        self.tenant = Tenant(api, self.archive.tenants["a"], "a")
        self.other = Tenant(api, self.archive.tenants["b"], "b")

    def archive_now(self) -> None:
        """Days 0 to 2 become cold; late readings and a doubled one come afterwards."""
        outcome = self.archive.run(most=COLD_DAYS)
        assert outcome.problems == []
        assert outcome.moved == COLD_DAYS

    def ask(self, statement: str, /, role: str = "scientist", **more: Any) -> httpx.Response:
        headers = self.tenant.headers(role) | more.pop("headers", {})
        body = {"sql": statement} | more
        return self.api.client.post("/api/v1/sql", json=body, headers=headers)

    def found(self, statement: str, **more: Any) -> dict[str, Any]:
        answer = self.ask(statement, **more)
        assert answer.status_code == 200, (statement, answer.text)
        body: dict[str, Any] = answer.json()
        return body


@contextmanager
def cold_world(server: Server, template: str, folder: Path) -> Iterator[ColdWorld]:
    """A world in a database of its own, gone at the end with its tenants' logins."""
    database = Database(server, server.create(template))
    world = ColdWorld(database, folder / "lake")
    try:
        yield world
    finally:
        world.archive.db.close()
        server.drop(database.name)
        drop_logins(server, "a", "b")


def drop_logins(server: Server, *slugs: str) -> None:
    """Roles outlive their database."""
    server.everywhere(*(f"drop role if exists tenant_{slug}" for slug in slugs))


def alike(left: Any, right: Any) -> bool:
    """Equal, numbers up to rounding."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float | Decimal) and isinstance(right, int | float | Decimal):
        return abs(left - right) <= 1e-9 * max(1, abs(left), abs(right))
    return bool(left == right)
