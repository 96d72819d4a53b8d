"""The application: routes, authentication, errors, life cycle."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.types import ControllerRouterHandler

from app.alert.routes import ROUTES as ALERT_ROUTES
from app.archive.routes import ROUTES as ARCHIVE_ROUTES
from app.docs.routes import ROUTES as DOCS_ROUTES
from app.docs.routes import openapi_config
from app.express import Express
from app.identity.middleware import KeyMiddleware, needed
from app.ingest.influx import ROUTES as INFLUX_ROUTES
from app.ingest.routes import ROUTES as INGEST_ROUTES
from app.live.refuse import SocketProblems, remember
from app.live.routes import ROUTES as LIVE_ROUTES
from app.ops.http import Stopwatch, count_response
from app.ops.routes import ROUTES as OPS_ROUTES
from app.problem import handle
from app.query.routes import ROUTES as QUERY_ROUTES
from app.read.routes import ROUTES as READ_ROUTES
from app.services import Services
from app.settings import Settings

HANDLERS: list[ControllerRouterHandler] = [
    *INGEST_ROUTES,
    *INFLUX_ROUTES,
    *READ_ROUTES,
    *QUERY_ROUTES,
    *ARCHIVE_ROUTES,
    *ALERT_ROUTES,
    *LIVE_ROUTES,
    *OPS_ROUTES,
    *DOCS_ROUTES,
]

EXPRESS = ("/api/v1/readings", "/api/v2/write", "/api/sensors/data")
"""What comes by the thousands."""


def create_app(settings: Settings | None = None) -> Litestar:
    """Build the application; without settings they come from the environment."""
    services = Services(settings or Settings.from_env())

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        await services.start()
        # what lives now lives for ever: the collector need not look at it again and again
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
        try:
            yield
        finally:
            await services.stop()

    app = Express(
        express=EXPRESS,
        route_handlers=HANDLERS,
        middleware=[Stopwatch(), SocketProblems(), KeyMiddleware()],
        before_send=[count_response],
        after_exception=[remember],
        exception_handlers={Exception: handle},
        lifespan=[lifespan],
        openapi_config=openapi_config(),
        logging_config=None,  # app/ops/logs.py sets up the process's logs
        state=State({"services": services}),
        request_max_body_size=None,  # app/ingest/body.py counts, with its own problem type
    )
    check_routes(app)
    return app


def check_routes(app: Litestar) -> None:
    """Raise KeyError for a route that app/identity/permission.py does not list."""
    for route in app.routes:
        for method in getattr(route, "methods", {"GET"}):
            if method != "OPTIONS":
                needed(method, route.path_format)
