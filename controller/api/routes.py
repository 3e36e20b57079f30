"""The one table of routes under /v1. The server, the OpenAPI document and the tests read it."""

from typing import Final

from . import deployment, events, instance, lists, rollback, service, system
from .routing import AnyRoute

ROUTES: Final[tuple[AnyRoute, ...]] = (
    *deployment.ROUTES,
    *rollback.ROUTES,
    *service.ROUTES,
    *instance.ROUTES,
    *events.ROUTES,
    *lists.ROUTES,
    *system.ROUTES,
)
