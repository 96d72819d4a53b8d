"""Which limits a caller has: its tenant's and key's own where they are set, else the settings'.

A sensor's own limit holds for keys of role device only: a gateway or an import (roles integration and
admin) sends for many sensors as fast as it can, and is limited by key and tenant.
"""

import msgspec

from app.identity.permission import Principal
from app.rate.ask import Ask, Part, SensorRates
from app.settings import Settings

DAY_US = 86_400_000_000.0
"""An empty catch-up allowance is whole again after a day: the outage it is for."""


class Limit(msgspec.Struct, frozen=True):
    """One bucket; rate 0 means no limit."""

    per_second: float
    burst: float

    @property
    def token_us(self) -> float:
        """Microseconds in which one token comes back; 0: no limit."""
        return 1_000_000 / self.per_second if self.per_second else 0.0

    @property
    def fill_us(self) -> float:
        """Microseconds in which an empty bucket fills."""
        return self.burst * self.token_us


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller may do."""

    has_sensor_limit: bool
    key: Limit
    tenant: Limit
    field: str
    """The RateLimit-Policy field."""

    @property
    def is_unlimited(self) -> bool:
        """Whether there is nothing to ask."""
        return not (self.has_sensor_limit or self.key.per_second or self.tenant.per_second)

    def ask(self, principal: Principal, readings: int, parts: list[Part]) -> Ask:
        """The question for one request."""
        assert principal.tenant_id is not None
        return Ask(
            principal.tenant_id,
            self.tenant.token_us,
            self.tenant.fill_us,
            principal.api_key_id,
            self.key.token_us,
            self.key.fill_us,
            readings,
            parts,
        )


class Policies:
    """Policies by caller, made once for each combination that occurs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[tuple[object, ...], Policy] = {}

    def of(self, principal: Principal) -> Policy:
        """The caller's policy."""
        name = (
            principal.role,
            principal.key_readings_per_second,
            principal.key_burst,
            principal.tenant_readings_per_second,
            principal.tenant_burst,
        )
        policy = self._known.get(name)
        if policy is None:
            if len(self._known) > 10_000:
                self._known.clear()
            policy = self._known[name] = self._make(principal)
        return policy

    def _make(self, principal: Principal) -> Policy:
        settings = self._settings
        is_device = principal.role == "device"
        key = limit_of(
            principal.key_readings_per_second,
            principal.key_burst,
            Limit(settings.rate_device_readings_per_second, settings.rate_device_burst)
            if is_device
            else Limit(settings.rate_key_readings_per_second, settings.rate_key_burst),
        )
        tenant = limit_of(
            principal.tenant_readings_per_second,
            principal.tenant_burst,
            Limit(settings.rate_tenant_readings_per_second, settings.rate_tenant_burst),
        )
        has_sensor_limit = is_device and settings.rate_sensor_requests_per_second > 0
        return Policy(
            has_sensor_limit=has_sensor_limit,
            key=key,
            tenant=tenant,
            field=policy_field(settings if has_sensor_limit else None, key, tenant),
        )


def limit_of(per_second: float | None, burst: float | None, default: Limit) -> Limit:
    """A limit of one's own, or the default; a rate alone brings a burst of ten seconds along."""
    if per_second is None:
        return Limit(default.per_second, default.burst if burst is None else burst)
    return Limit(per_second, per_second * 10 if burst is None else burst)


def sensor_rates(settings: Settings) -> SensorRates:
    """The settings' limits of every sensor; no rate: nobody asks for them."""
    requests = Limit(settings.rate_sensor_requests_per_second, settings.rate_sensor_burst)
    catch_up = settings.rate_sensor_catch_up_readings
    return SensorRates(
        request_us=requests.token_us,
        request_burst_us=requests.fill_us,
        catch_up_us=DAY_US / catch_up if catch_up else 0.0,
        catch_up_burst_us=DAY_US,
    )


def policy_field(settings: Settings | None, key: Limit, tenant: Limit) -> str:
    """draft-ietf-httpapi-ratelimit-headers-11, section 3: quota, unit, window for each policy."""
    items = []
    if settings is not None:
        sensor = Limit(settings.rate_sensor_requests_per_second, settings.rate_sensor_burst)
        items.append(f'"sensor";q={int(sensor.burst)};w={_seconds(sensor)}')
        if settings.rate_sensor_catch_up_readings:
            items.append(
                f'"catch-up";q={settings.rate_sensor_catch_up_readings};qu="readings";w=86400'
            )
    for name, limit in (("key", key), ("tenant", tenant)):
        if limit.per_second:
            items.append(f'"{name}";q={int(limit.burst)};qu="readings";w={_seconds(limit)}')
    return ", ".join(items)


def _seconds(limit: Limit) -> int:
    return max(1, round(limit.burst / limit.per_second))
