"""Routes of the reads."""

from litestar.types import ControllerRouterHandler

from app.read.catalogue import get_metrics, get_sensors, get_sites
from app.read.latest import get_latest, get_sensors_latest
from app.read.readings import get_readings

ROUTES: list[ControllerRouterHandler] = [
    get_sensors,
    get_sites,
    get_metrics,
    get_readings,
    get_latest,
    get_sensors_latest,
]
