"""What a sender is told: the RateLimit fields and the problem of a refusal.

Syntax of draft-ietf-httpapi-ratelimit-headers-11. A grant says what is left (`r`), a refusal also in how
many seconds the same request would be granted (`t`, which Retry-After repeats).
"""

import math

from app.errors import RateLimited
from app.identity.permission import Principal
from app.rate.ask import Answer
from app.rate.policy import Limit, Policy
from app.settings import Settings

US = 1_000_000


def headers(policy: Policy, answer: Answer) -> dict[str, str]:
    """RateLimit and RateLimit-Policy."""
    items = []
    for name, left, wait in (
        ("sensor", answer.left_sensor, answer.wait_sensor_us),
        ("catch-up", answer.left_catch_up, 0),
        ("key", answer.left_key, answer.wait_key_us),
        ("tenant", answer.left_tenant, answer.wait_tenant_us),
    ):
        if left >= 0:
            items.append(f'"{name}";r={left};t={_up(wait)}' if wait else f'"{name}";r={left}')
    fields = {"RateLimit-Policy": policy.field}
    if items:
        fields["RateLimit"] = ", ".join(items)
    return fields


def refusal(
    policy: Policy,
    answer: Answer,
    *,
    principal: Principal,
    settings: Settings,
    sensors: list[str],
    readings: int,
) -> RateLimited:
    """The problem, named after the limit with the longest wait."""
    waits = {
        "sensor": answer.wait_sensor_us,
        "key": answer.wait_key_us,
        "tenant": answer.wait_tenant_us,
    }
    violated = [name for name, wait in waits.items() if wait]
    limit = max(violated, key=lambda name: waits[name])
    seconds = _up(waits[limit])
    extra: dict[str, object] = {"limit": limit, "violated-policies": violated}
    if sensors:
        extra["sensors"] = sensors
    if limit == "sensor":
        why = _sensor(settings, sensors[0])
        remedy = (
            "put more readings into one request, or use a gateway's key (role integration), which"
            " has no limit for each sensor"
        )
    elif limit == "key":
        why = _readings(f"Key {principal.name}", policy.key, readings)
        remedy = f"send less often, or have it raised with `headwater rate key {principal.name}`"
    else:
        why = _readings("The tenant", policy.tenant, readings)
        remedy = "send less often, or have it raised with `headwater rate tenant`"
    return RateLimited(
        f"{why} Nothing of this request was stored or counted: send the same again in {seconds} s;"
        f" {remedy}.",
        headers={**headers(policy, answer), "Retry-After": str(seconds)},
        retry_after_seconds=seconds,
        **extra,
    )


def _sensor(settings: Settings, uid: str) -> str:
    rate = f"{settings.rate_sensor_requests_per_second:g} requests a second"
    return (
        f"Sensor {uid[:60]!r} may send {rate}; its burst of {settings.rate_sensor_burst} requests is"
        " used up, and its catch-up allowance"
        f" ({settings.rate_sensor_catch_up_readings} readings a day) does not hold this request."
    )


def _readings(who: str, limit: Limit, readings: int) -> str:
    return (
        f"{who} may send {limit.per_second:,g} readings a second with a burst of {limit.burst:,g};"
        f" these {readings} are too many for now."
    )


def _up(us: float) -> int:
    return max(1, math.ceil(us / US))
