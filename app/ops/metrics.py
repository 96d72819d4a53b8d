"""Prometheus metrics of the API process, named once.

Labels are route templates and fixed words, never a sensor or tenant: their number stays small however
many sensors there are. `headwater serve` runs several processes and sets PROMETHEUS_MULTIPROC_DIR;
then any of them answers for all.
"""

import os
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

HTTP_REQUESTS = Counter(
    "headwater_http_requests_total", "Answered HTTP requests.", ("method", "route", "status")
)
HTTP_SECONDS = Histogram(
    "headwater_http_request_seconds",
    "Seconds from a request's arrival to the first byte of its answer.",
    ("method", "route"),
    buckets=LATENCY,
)
READINGS = Counter("headwater_readings_total", "Readings received, by verdict.", ("verdict",))
RATE_LIMITED = Counter(
    "headwater_rate_limited_total", "Requests refused for sending too much, by limit.", ("limit",)
)
BATCH_SECONDS = Histogram(
    "headwater_batch_seconds",
    "Seconds of one writer transaction, from COPY to COMMIT.",
    buckets=LATENCY,
)
QUEUE = Gauge(
    "headwater_ingest_queue_readings",
    "Readings that wait for a writer.",
    multiprocess_mode="livesum",
)
ALERT_EVENTS = Counter(
    "headwater_alert_events_total", "Alert events handed to live subscribers.", ("kind",)
)
LIVE_SUBSCRIBERS = Gauge(
    "headwater_live_subscribers",
    "Open live connections (WebSocket and event stream).",
    multiprocess_mode="livesum",
)
LIVE_DROPPED = Counter(
    "headwater_live_dropped_total", "Live connections closed because they read too slowly."
)
LIVE_SECONDS = Histogram(
    "headwater_live_seconds",
    "Seconds from the database's note of an alert's change to its hand-over to the subscribers.",
    buckets=LATENCY,
)


def exposition() -> bytes:
    """All metrics in Prometheus' text format; of all processes where there are several."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return generate_latest(REGISTRY)
    for file in Path(folder).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
