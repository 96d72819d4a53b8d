"""Who may do what, in one place.

A role is a set of permissions; every route names the one it needs in ROUTES. The application refuses
to start with a route that is not listed, and a test walks all of them. People's log-in will yield the
same Principal that a key does, so no route changes with it.
"""

from enum import StrEnum

import msgspec


class Permission(StrEnum):
    """One thing a caller may do; PUBLIC needs no key."""

    PUBLIC = "public"
    READINGS_WRITE = "readings:write"
    READINGS_READ = "readings:read"
    CATALOGUE_READ = "catalogue:read"
    ALERTS_READ = "alerts:read"
    ALERTS_DECIDE = "alerts:decide"
    THRESHOLDS_WRITE = "thresholds:write"
    SQL_READ = "sql:read"


_READ = frozenset({Permission.READINGS_READ, Permission.CATALOGUE_READ, Permission.ALERTS_READ})
_STUDY = _READ | {Permission.SQL_READ}
_OPERATE = _STUDY | {Permission.ALERTS_DECIDE}
_ADMINISTER = _OPERATE | {Permission.THRESHOLDS_WRITE, Permission.READINGS_WRITE}

ROLES: dict[str, frozenset[Permission]] = {
    "device": frozenset({Permission.READINGS_WRITE}),
    "operator": _OPERATE,
    "scientist": _STUDY,
    "admin": _ADMINISTER,
    "super_admin": _ADMINISTER,
    "integration": _READ | {Permission.READINGS_WRITE},
}

ROUTES: dict[tuple[str, str], Permission] = {
    ("POST", "/api/v1/readings"): Permission.READINGS_WRITE,
    ("POST", "/api/sensors/data"): Permission.READINGS_WRITE,
    ("POST", "/api/v2/write"): Permission.READINGS_WRITE,
    ("GET", "/api/v1/readings"): Permission.READINGS_READ,
    ("GET", "/api/v1/latest"): Permission.READINGS_READ,
    ("GET", "/api/sensors/latest"): Permission.READINGS_READ,
    ("GET", "/api/sensors/historical"): Permission.READINGS_READ,
    ("GET", "/api/v1/sensors"): Permission.CATALOGUE_READ,
    ("GET", "/api/v1/sites"): Permission.CATALOGUE_READ,
    ("GET", "/api/v1/metrics"): Permission.CATALOGUE_READ,
    ("POST", "/api/v1/sql"): Permission.SQL_READ,
    ("GET", "/api/v1/alerts"): Permission.ALERTS_READ,
    ("GET", "/api/v1/alerts/{episode_id}"): Permission.ALERTS_READ,
    ("POST", "/api/v1/alerts/{episode_id}/acknowledge"): Permission.ALERTS_DECIDE,
    ("POST", "/api/v1/alerts/{episode_id}/investigate"): Permission.ALERTS_DECIDE,
    ("POST", "/api/v1/alerts/{episode_id}/resolve"): Permission.ALERTS_DECIDE,
    ("GET", "/api/alerts"): Permission.ALERTS_READ,
    ("GET", "/api/v1/thresholds"): Permission.CATALOGUE_READ,
    ("PUT", "/api/v1/thresholds"): Permission.THRESHOLDS_WRITE,
    ("DELETE", "/api/v1/thresholds/{threshold_id}"): Permission.THRESHOLDS_WRITE,
    ("GET", "/api/v1/live"): Permission.ALERTS_READ,
    ("GET", "/api/v1/live/sse"): Permission.ALERTS_READ,
    ("GET", "/api/status"): Permission.PUBLIC,
    ("GET", "/metrics"): Permission.PUBLIC,
    ("GET", "/"): Permission.PUBLIC,
    ("GET", "/problems"): Permission.PUBLIC,
    ("GET", "/problems/{slug}"): Permission.PUBLIC,
    ("GET", "/docs"): Permission.PUBLIC,
    ("GET", "/docs/openapi.json"): Permission.PUBLIC,
    ("GET", "/docs/{path}"): Permission.PUBLIC,
    ("GET", "/docs/assets/{file}"): Permission.PUBLIC,
}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling."""

    name: str
    """How notes and logs name the caller: the key's prefix."""
    api_key_id: int
    tenant_id: int | None
    """None: every tenant (super admin)."""
    role: str
    sensor_ids: frozenset[int] | None
    """None: every sensor of the tenant; else the only ones it may write."""
    is_auto_register: bool
    """Whether the tenant takes readings of sensors it does not know yet."""
    key_readings_per_second: float | None = None
    """The key's own rate limit; None: the settings' default of its role, 0: no limit."""
    key_burst: float | None = None
    tenant_readings_per_second: float | None = None
    """The tenant's own rate limit; None: the settings' default, 0: no limit."""
    tenant_burst: float | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the role may do."""
        return ROLES[self.role]
