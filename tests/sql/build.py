"""Small builders for SQL tests: name what matters, default the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

T0 = datetime(2026, 6, 1, tzinfo=UTC)

METRIC = {"ph": 1, "temperature": 2, "turbidity": 3, "dissolved_oxygen": 4}


def at(minutes: float) -> datetime:
    """A time that many minutes after T0."""
    return T0 + timedelta(minutes=minutes)


class World:
    """One connection as superuser and the few rows every alert test needs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.db = psycopg.connect(url, autocommit=True, row_factory=dict_row)
        self.tenant_id = self.one(
            "insert into identity.tenant (slug, title) values ('test', 'Test') returning tenant_id"
        )["tenant_id"]
        self.site_id = self.one(
            "insert into telemetry.site (tenant_id, code, title, region)"
            " values (%s, 'weir', 'Weir', 'north') returning site_id",
            self.tenant_id,
        )["site_id"]

    def all(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Every row of a statement."""
        cursor = self.db.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: Any) -> dict[str, Any]:
        """The only row of a statement."""
        (row,) = self.all(statement, *values)
        return row

    def make_sensor(self, uid: str = "s1", *, site: bool = True) -> int:
        """A sensor at the site; its id."""
        return self.one(
            "insert into telemetry.sensor (tenant_id, site_id, uid) values (%s, %s, %s)"
            " returning sensor_id",
            self.tenant_id,
            self.site_id if site else None,
            uid,
        )["sensor_id"]

    def make_threshold(
        self, metric: str = "ph", side: str = "high", limit: float = 8, **more: Any
    ) -> int:
        """A tenant-wide warning unless said otherwise; its id."""
        columns = {
            "tenant_id": self.tenant_id,
            "metric_id": METRIC[metric],
            "severity": "warning",
            "side": side,
            "limit_value": limit,
        } | more
        names = ", ".join(columns)
        marks = ", ".join(["%s"] * len(columns))
        return self.one(
            f"insert into alert.threshold ({names}) values ({marks}) returning threshold_id",
            *columns.values(),
        )["threshold_id"]

    def write(
        self, sensor_id: int, readings: list[tuple[float, float]], metric: str = "ph"
    ) -> None:
        """Store (minute, value) readings and judge them, in one transaction, as the writer does."""
        rows = [(sensor_id, at(minute), value, METRIC[metric]) for minute, value in readings]
        with self.db.transaction(), self.db.cursor() as cursor:
            for table in ("telemetry.reading", "alert.candidate"):
                with cursor.copy(
                    f"copy {table} (sensor_id, ts, value, metric_id) from stdin"
                ) as copy:
                    for row in rows:
                        copy.write_row(row)

    def store_only(
        self, sensor_id: int, readings: list[tuple[float, float]], metric: str = "ph"
    ) -> None:
        """Store readings by another door: nobody judges them."""
        with self.db.cursor() as cursor:
            cursor.executemany(
                "insert into telemetry.reading (sensor_id, ts, value, metric_id) values (%s, %s, %s, %s)",
                [(sensor_id, at(minute), value, METRIC[metric]) for minute, value in readings],
            )

    def episodes(self) -> list[tuple[Any, ...]]:
        """(severity, side, state, first minute, last minute, resolved minute, peak, readings)."""

        def minute(ts: datetime | None) -> float | None:
            return None if ts is None else (ts - T0).total_seconds() / 60

        return [
            (
                e["severity"], e["side"], e["state"], minute(e["opened_at"]), minute(e["last_at"]),
                minute(e["resolved_at"]), e["peak"], e["reading_count"],
            )
            for e in self.all("select * from alert.episode order by opened_at, severity, side")
        ]  # fmt: skip

    def events(self) -> list[str]:
        """Kinds in the outbox, in order."""
        self.all("select alert.collect()")
        return [row["kind"] for row in self.all("select kind from alert.outbox order by outbox_id")]
