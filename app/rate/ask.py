"""What is asked of the buckets and what they answer, in the form that goes to Redis and back."""

from collections.abc import Sequence

import msgspec

GROUP = 64
"""Sensors that share a hash in Redis; `bucket.lua` knows the number, too."""

Part = tuple[int, list[int], list[int]]
"""Group number, members within the group, readings of each."""


class SensorRates(msgspec.Struct, frozen=True, array_like=True):
    """The limits of every sensor, in microseconds: one token's worth, and a full bucket's."""

    request_us: float
    request_burst_us: float
    catch_up_us: float
    """0: no catch-up allowance."""
    catch_up_burst_us: float


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One request: granted whole or refused whole."""

    tenant_id: int
    tenant_us: float
    """Microseconds in which one token comes back; 0: no limit."""
    tenant_burst_us: float
    """Microseconds in which an empty bucket fills."""
    key_id: int
    key_us: float
    key_burst_us: float
    readings: int
    parts: Sequence[Part]
    """The sensors, where they have limits of their own."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What the buckets say to one Ask."""

    wait_tenant_us: float
    """Until the same request would be granted; 0: this limit permits it."""
    wait_key_us: float
    wait_sensor_us: float
    left_tenant: int
    """Tokens left after this request; -1: no such limit."""
    left_key: int
    left_sensor: int
    """Of the sensor that has the fewest left, as the next."""
    left_catch_up: int
    """-1 also where nobody needed it."""
    refused: Sequence[int]
    """The first sensors whose limit refused the request."""

    @property
    def is_granted(self) -> bool:
        """Whether it may go on."""
        return not (self.wait_tenant_us or self.wait_key_us or self.wait_sensor_us)


def parts(sensor_ids: Sequence[int], readings: Sequence[int]) -> list[Part]:
    """Distinct sensors by group; those without a reading are left out."""
    groups: dict[int, Part] = {}
    for sensor_id, count in zip(sensor_ids, readings, strict=True):
        if count:
            number, member = divmod(sensor_id, GROUP)
            part = groups.get(number)
            if part is None:
                part = groups[number] = (number, [], [])
            part[1].append(member)
            part[2].append(count)
    return list(groups.values())
