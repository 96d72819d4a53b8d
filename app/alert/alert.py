"""An alert as people and programs get it."""

from datetime import datetime

import msgspec


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert: a stretch of readings beyond a limit, and what people did about it."""

    alert_id: int
    tenant: str
    sensor: str
    site: str | None
    region: str | None
    metric: str
    unit: str
    """Unit of limit and peak."""
    severity: str
    side: str
    """high: above the limit; low: below."""
    state: str
    """pending (too short yet), open, acknowledged, investigating, resolved."""
    limit: float
    peak: float
    opened_at: datetime
    """Time of the first violating reading."""
    last_at: datetime
    """Time of the last violating reading."""
    resolved_at: datetime | None
    readings: int
    """Number of violating readings."""
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_by: str | None
    """Null where a reading, not a person, resolved it."""
    note: str | None
