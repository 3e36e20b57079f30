"""What a token that is limited to some services can reach: each route says where its service stands.

A refusal is the same whether there is nothing of that name or something of another service."""

from typing import Any

from controller.core.refusals import ForbiddenError
from releasehand.model import OperationKind

from .routing import AnyRoute, Call

AnyCall = Call[Any, Any]


async def by_body(call: AnyCall) -> bool:
    """The body names the service."""
    return call.grant.reaches(call.body.service)


async def by_path(call: AnyCall) -> bool:
    """The path names the service."""
    return call.grant.reaches(call.name)


async def by_deployment(call: AnyCall) -> bool:
    """The path names a deployment."""
    return call.grant.reaches(await call.deps.store.find_service(OperationKind.DEPLOYMENT, call.name))


async def by_rollback(call: AnyCall) -> bool:
    """The path names a rollback."""
    return call.grant.reaches(await call.deps.store.find_service(OperationKind.ROLLBACK, call.name))


async def by_instance(call: AnyCall) -> bool:
    """The path names an instance."""
    return call.grant.reaches(await call.deps.store.find_service_of_instance(call.name))


async def by_instance_in_body(call: AnyCall) -> bool:
    """The body names an instance. Acceptance asks again: its service may change in between."""
    return call.grant.reaches(await call.deps.store.find_service_of_instance(call.body.instance_id))


async def by_filter(call: AnyCall) -> bool:
    """A list that holds nothing of other services; a filter may name one of the caller's."""
    service = getattr(call.query, "service", None)
    return service is None or call.grant.reaches(service)


async def everything(call: AnyCall) -> bool:
    """The answer is about all services together."""
    return not call.grant.is_limited


async def check_reach(route: AnyRoute, call: AnyCall) -> None:
    """Raises ForbiddenError for what is beyond the services of a limited token."""
    if call.grant.is_limited and route.reach is not None and not await route.reach(call):
        named = ", ".join(sorted(call.grant.services)[:5])
        more = len(call.grant.services) - 5
        named += f" and {more} more" if more > 0 else ""
        raise ForbiddenError(f"cannot do this: token '{call.actor.name}' is limited to {named}")
