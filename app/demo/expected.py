"""The alerts that recorded data demands, worked out from the files alone.

This is the demo's second opinion: plain Python over the series that are sent, with its own unit
table and nothing of the server's code or SQL, so that an error there is not repeated here.

Per sensor, metric and rule, over the readings in time order, a reading is
- **violating** if it is beyond the limit,
- **clear** if it is back inside the limit by at least the hysteresis,
- otherwise in between, which changes nothing.

An *excursion* begins at the first violating reading after the start or after a clear one, and ends
at the next clear one. It becomes an *episode* if one of its violating readings is at least the
minimum duration after its first. Of several readings of one sensor, metric and time, the first
sent counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from app.replay.series import SECOND, Series

THRESHOLDS = Path(__file__).with_name("thresholds.json")

# (metric, unit as sent) -> factor to the stored unit; whatever is not here is stored as sent
FACTORS = {
    ("specific_conductance", "mS/cm"): 1000.0,
    ("depth", "ft"): 0.3048,
    ("stage", "ft"): 0.3048,
    ("flow", "ft3/s"): 0.028316846592,
}


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit; for all sensors, or in place of the general one for the sensor it names."""

    metric: str
    side: str
    severity: str
    limit_value: float
    """In the unit that the metric is stored in."""
    hysteresis: float = 0.0
    min_duration: float = 0.0
    """Seconds."""
    sensor: str | None = None


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One alert that has to be there; times in microseconds UTC, as in the readings."""

    sensor: str
    metric: str
    severity: str
    side: str
    opened_at: int
    """First violating reading."""
    raised_at: int
    """The violating reading with which it has lasted long enough."""
    last_at: int
    """Last violating reading."""
    resolved_at: int | None
    """The clear reading that ended it; None while it is open."""
    peak: float
    """Most extreme violating value."""
    n: int
    """Violating readings."""


def read_rules(path: Path = THRESHOLDS) -> list[Rule]:
    """The demo's thresholds."""
    return msgspec.json.decode(path.read_bytes(), type=list[Rule])


def expected_episodes(series: Sequence[Series], rules: Sequence[Rule]) -> list[Episode]:
    """Every episode that the series demand, given in the order they are sent."""
    episodes: list[Episode] = []
    for (sensor, metric), readings in readings_by_stream(series).items():
        for rule in rules_for(sensor, metric, rules):
            episodes.extend(episodes_of(sensor, readings, rule))
    return episodes


def readings_by_stream(
    series: Iterable[Series],
) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(time, stored value) per sensor and metric, in time order, one per time: the first sent."""
    streams: dict[tuple[str, str], dict[int, float]] = {}
    for one in series:
        factor = FACTORS.get((one.metric, one.unit), 1.0)
        stream = streams.setdefault((one.sensor, one.metric), {})
        for ts, value in zip(one.ts.tolist(), one.values.tolist(), strict=True):
            stream.setdefault(ts, value * factor)
    return {key: sorted(stream.items()) for key, stream in streams.items()}


def rules_for(sensor: str, metric: str, rules: Sequence[Rule]) -> list[Rule]:
    """The metric's rules; per side and severity the sensor's own one before the general one."""
    chosen: dict[tuple[str, str], Rule] = {}
    for rule in rules:
        if rule.metric != metric or rule.sensor not in (None, sensor):
            continue
        if rule.sensor is None and (rule.side, rule.severity) in chosen:
            continue
        chosen[rule.side, rule.severity] = rule
    return list(chosen.values())


def episodes_of(
    sensor: str, readings: Iterable[tuple[int, float]], rule: Rule
) -> Iterator[Episode]:
    """One rule's episodes over one stream's readings."""
    violating: list[tuple[int, float]] = []  # of the present excursion
    for ts, value in readings:
        if is_violating(value, rule):
            violating.append((ts, value))
        elif violating and is_clear(value, rule):
            yield from as_episode(sensor, violating, ts, rule)
            violating = []
    if violating:
        yield from as_episode(sensor, violating, None, rule)


def is_violating(value: float, rule: Rule) -> bool:
    """Beyond the limit; on it is not."""
    return value > rule.limit_value if rule.side == "high" else value < rule.limit_value


def is_clear(value: float, rule: Rule) -> bool:
    """Back inside the limit by the hysteresis."""
    if rule.side == "high":
        return value <= rule.limit_value - rule.hysteresis
    return value >= rule.limit_value + rule.hysteresis


def as_episode(
    sensor: str, violating: list[tuple[int, float]], resolved_at: int | None, rule: Rule
) -> Iterator[Episode]:
    """The excursion as an episode, if it lasted long enough to be one."""
    opened_at, last_at = violating[0][0], violating[-1][0]
    if last_at - opened_at < rule.min_duration * SECOND:
        return
    values = [value for _, value in violating]
    enough = opened_at + rule.min_duration * SECOND
    yield Episode(
        sensor=sensor,
        metric=rule.metric,
        severity=rule.severity,
        side=rule.side,
        opened_at=opened_at,
        raised_at=next(ts for ts, _ in violating if ts >= enough),
        last_at=last_at,
        resolved_at=resolved_at,
        peak=max(values) if rule.side == "high" else min(values),
        n=len(values),
    )
