"""Changes that did not come about: who asked for what, and why nothing was changed."""

from controller.core.audit import Actor, AuditEntry, describe
from controller.core.refusals import StoreUnavailableError
from releasehand.model import AuditOutcome, ErrorType, Request
from shared.logs import get_log

from .deps import ApiDeps
from .errors import ApiError
from .routing import AnyRoute

log = get_log(__name__)


async def audit_failure(
    deps: ApiDeps, route: AnyRoute, actor: Actor, name: str, body: Request | None, error: Exception
) -> None:
    """Record a change that was refused or failed, in a transaction of its own; durable on return.

    A database that cannot be written refuses the entry too: the log has it then. `name` is the id in the
    path."""
    if route.action is None:
        return
    code, message = _explain(error)
    refused = isinstance(error, ApiError) and error.fault.status < 500
    entry = AuditEntry(
        deps.clock.now(),
        actor,
        route.action,
        AuditOutcome.REFUSED if refused else AuditOutcome.FAILED,
        describe(body, **({_key(route): name} if name else {})),
        code,
        message,
    )
    try:
        await deps.store.audit(entry)
    except StoreUnavailableError as exc:
        log.error(  # noqa: TRY400 - the reason is told, and where it was raised is known
            "audit could not be written",
            reason=str(exc),
            action=entry.action,
            actor=actor.name,
            address=actor.address,
            request_id=actor.request_id,
            code=code,
        )


def _key(route: AnyRoute) -> str:
    """Where the body has a field of the path's name, it names what is new and the path what it comes from."""
    in_body = route.request_model is not None and route.path_name in route.request_model.model_fields
    return "of" if in_body else route.path_name


def _explain(error: Exception) -> tuple[str, str]:
    match error:
        case ApiError():
            return error.type.value, error.detail
        case StoreUnavailableError():
            return ErrorType.UNAVAILABLE.value, "the database could not be used"
        case _:
            return ErrorType.INTERNAL_ERROR.value, "the controller failed; its log has more"
