"""Routes of the archive."""

from litestar.types import ControllerRouterHandler

from app.archive.historical import get_sensors_historical

ROUTES: list[ControllerRouterHandler] = [get_sensors_historical]
