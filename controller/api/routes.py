"""The one table of routes under /v1. The server, the OpenAPI document and the tests read it."""

from typing import Final

from . import audit, deployment, enrolment, events, instance, lists, rollback, service, system, token
from .routing import AnyRoute

ROUTES: Final[tuple[AnyRoute, ...]] = (
    *deployment.ROUTES,
    *rollback.ROUTES,
    *service.ROUTES,
    *instance.ROUTES,
    *events.ROUTES,
    *lists.ROUTES,
    *enrolment.ROUTES,
    *token.ROUTES,
    *audit.ROUTES,
    *system.ROUTES,
)
