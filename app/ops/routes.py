"""GET /api/status and GET /metrics: no key needed, nothing secret in them."""

from typing import Any

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ControllerRouterHandler

from app.docs.openapi import package_version
from app.ops.metrics import QUEUE, exposition
from app.ops.status import Ingest, Live, Status, judge
from app.services import Services


@get(
    "/api/status",
    tags=["about"],
    summary="How the platform is",
    responses={
        503: ResponseSpec(
            Status, description="Unhealthy: the database is down.", generate_examples=False
        )
    },
)
async def get_status(request: Request[Any, Any, Any]) -> Response[Status]:
    """Truthful and fast: 200 when healthy or degraded, 503 when unhealthy."""
    services: Services = request.app.state.services
    database, redis = await services.probe.ask()
    status = judge(
        database,
        redis,
        live=live(services),
        ingest=ingest(services),
        replica=services.reads.standing,
        rate_limits=services.limiter.mode,
        version=package_version(),
    )
    return Response(status, status_code=503 if status.status == "unhealthy" else 200)


def live(services: Services) -> Live:
    """The live push of this process."""
    word = "running" if services.bell.is_connected else "waiting"
    return Live(
        status=word if services.hub.is_running else "stopped",  # type: ignore[arg-type]
        subscribers=services.hub.subscriber_count,
    )


def ingest(services: Services) -> Ingest:
    """The ingest of this process."""
    return Ingest(
        queue_readings=services.writer.queued_readings,
        queue_limit=services.settings.ingest_queue_readings,
        writers=services.writer.connected,
        writers_wanted=services.settings.ingest_writers,
    )


@get("/metrics", tags=["about"], summary="Prometheus metrics", media_type="text/plain")
async def get_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Counters and gauges of all API processes in Prometheus' text format."""
    services: Services = request.app.state.services
    QUEUE.set(services.writer.queued_readings)
    return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


ROUTES: list[ControllerRouterHandler] = [get_status, get_metrics]
