"""Routes of alerts and thresholds."""

from litestar.types import ControllerRouterHandler

from app.alert.alerts import (
    acknowledge,
    get_alert,
    get_alerts,
    get_old_alerts,
    investigate,
    resolve,
)
from app.alert.thresholds import delete_threshold, get_thresholds, put_threshold

ROUTES: list[ControllerRouterHandler] = [
    get_alerts,
    get_alert,
    acknowledge,
    investigate,
    resolve,
    get_old_alerts,
    get_thresholds,
    put_threshold,
    delete_threshold,
]
