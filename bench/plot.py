"""The plot of bench/capacity.py, drawn by Altair (of the dev extra) without a browser."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from bench.capacity import FLEETS, INTERVALS, SIZES, Costs, Need, Plan, need

ORDER = [f"{size} cores" for size in SIZES]
STEPS = 90


def draw(found: Sequence[Need], costs: Costs, plan: Plan, path: Path) -> None:
    """Workers over sensors, a line for each size of server, the table's fleets on them; as SVG or PNG."""
    alt.hconcat(*(_panel(found, each, costs, plan) for each in INTERVALS)).save(path)


def workers_of(sensors: int, per_second: float, size: int, costs: Costs, plan: Plan) -> int:
    """How many servers of one size so many sensors take, without a limit on their number."""
    one = need(sensors, per_second, costs, plan)
    free = 1 - plan.headroom
    return max(
        1,
        math.ceil(one.worker_cores / free / size),
        math.ceil(one.disk_tb / free / (size * plan.disk_per_core_tb)),
    )


def _panel(found: Sequence[Need], per_second: float, costs: Costs, plan: Plan) -> Any:
    low, high = (math.log10(FLEETS[place]) for place in (0, -1))
    fleets = [round(10 ** (low + (high - low) * step / STEPS)) for step in range(STEPS + 1)]
    lines = [
        {
            "sensors": sensors,
            "workers": workers_of(sensors, per_second, size, costs, plan),
            "size": f"{size} cores",
        }
        for size in SIZES
        for sensors in fleets
    ]
    points = [
        {
            "sensors": n.sensors,
            "workers": n.workers,
            "size": f"{n.cores} cores",
            "text": f"{n.workers} of {n.cores} cores",
        }
        for n in found
        if n.rate == n.sensors * per_second
    ]
    x = alt.X("sensors:Q", title=f"sensors, {per_second:g} readings a second each")
    x = x.scale(type="log", domain=[FLEETS[0] * 0.8, FLEETS[-1] * 1.3]).axis(
        values=[10**4, 10**5, 10**6, 10**7], format="~s"
    )
    y = alt.Y("workers:Q", title="workers").scale(type="log", domain=[0.8, 2_000])
    y = y.axis(values=[1, 10, 100, 1_000])
    colour = alt.Color("size:O", title="each of", sort=ORDER).scale(scheme="viridis")
    of_lines, of_points = (alt.Chart(alt.InlineData(values=rows)) for rows in (lines, points))
    first = f"datum.sensors == {FLEETS[0]}"
    left: dict[str, Any] = {"align": "right", "dx": -8, "dy": 13, "fontSize": 11}
    halos: tuple[dict[str, Any], ...] = ({"stroke": "white", "strokeWidth": 4}, {})
    right = left | {"align": "left", "dx": 8, "dy": -10}
    return alt.layer(
        of_lines.mark_line(interpolate="step-after", strokeWidth=1.5).encode(x, y, colour),
        of_points.mark_point(filled=True, size=70, color="black", opacity=1).encode(x, y),
        *(
            of_points.transform_filter(which).mark_text(**place, **halo).encode(x, y, text="text:N")
            for which, place in ((first, right), (f"!({first})", left))
            for halo in halos
        ),
    ).properties(width=340, height=320)
