"""What senders' words for metrics and units mean, and the numbers that follow from it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray


class Metric(msgspec.Struct, frozen=True):
    """A row of metric_channels."""

    metric_id: int
    code: str
    unit: str
    plausible_min: float
    plausible_max: float
    aliases: list[str]
    units: dict[str, tuple[float | None, float, str | None]]
    """Normalised unit -> factor, shift, refusal."""


class Resolved(msgspec.Struct, frozen=True):
    """A channel we store: stored value = sent value * factor + shift."""

    metric_id: int
    factor: float
    shift: float
    plausible_min: float
    plausible_max: float


class Refused(msgspec.Struct, frozen=True):
    """A channel we don't: the field to blame and why."""

    field: str
    reason: str


@dataclass(frozen=True)
class ChannelTable:
    """The channels of a request, side by side; arrays have the shape (channels,)."""

    factor: NDArray[np.float64]
    shift: NDArray[np.float64]
    metric_id: NDArray[np.int16]
    low: NDArray[np.float64]
    """Below it a value is not plausible."""
    high: NDArray[np.float64]
    refused: dict[int, tuple[str, str]]
    """Position -> field and reason."""
    is_as_stored: bool
    """Whether all of them come in the unit in which they are stored."""

    @classmethod
    def of(cls, channels: Sequence[Resolved | Refused]) -> "ChannelTable":
        """Put them side by side."""
        found = [c if isinstance(c, Resolved) else Resolved(0, 1, -0.0, 0, 0) for c in channels]
        return cls(
            factor=np.array([c.factor for c in found], dtype=np.float64),
            shift=np.array([c.shift for c in found], dtype=np.float64),
            metric_id=np.array([c.metric_id for c in found], dtype=np.int16),
            low=np.array([c.plausible_min for c in found], dtype=np.float64),
            high=np.array([c.plausible_max for c in found], dtype=np.float64),
            refused={
                number: (channel.field, channel.reason)
                for number, channel in enumerate(channels)
                if isinstance(channel, Refused)
            },
            is_as_stored=all(c.factor == 1 and c.shift == 0 for c in found),
        )


def normalise_unit(text: str) -> str:
    """One spelling for what is one unit: "µS/cm" -> "us/cm", "°C" -> "degc", "m³/s" -> "m3/s"."""
    text = unicodedata.normalize("NFKC", text.replace("\N{DEGREE SIGN}", "deg"))
    return " ".join(text.replace("\N{GREEK SMALL LETTER MU}", "u").lower().split())


def meaning(metrics: dict[str, Metric], name: str, unit: str | None) -> Resolved | Refused:
    """What a sender's metric and unit stand for."""
    metric = metrics.get(name.strip().lower())
    if metric is None:
        return Refused("metric", f"{name[:60]!r} is not known; GET /api/v1/metrics lists them")
    if unit is None:
        factor, shift = 1.0, 0.0
    else:
        entry = metric.units.get(normalise_unit(unit))
        if entry is None:
            return Refused(
                "unit",
                f"{unit[:40]!r} is not known for {metric.code}; it is stored in {metric.unit}",
            )
        if entry[0] is None:
            return Refused("unit", f"{unit[:40]!r} is ambiguous for {metric.code}: {entry[2]}")
        factor, shift = entry[0], entry[1]
    # -0.0 added changes no value, not even a negative zero
    shift = shift or -0.0
    return Resolved(metric.metric_id, factor, shift, metric.plausible_min, metric.plausible_max)
