"""Which HTTP status each error type has, and which error type each refusal. Domain classes know no status."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final

from controller.core.refusals import (
    AlreadyEndedError,
    DeployIdConflictError,
    ForbiddenError,
    IdempotencyKeyConflictError,
    InstanceBusyError,
    NotEndedError,
    NothingFailedError,
    RefusalError,
    UnknownAgentError,
    UnknownInstanceError,
    UnknownJoinTokenError,
    UnknownOperationError,
    UnknownServiceError,
)
from controller.core.token import TokenExistsError, UnknownTokenError
from releasehand.model import ErrorType, FieldError, OperationKind, Request, SystemHealth

MAX_FIELD_ERRORS: Final = 100
RETRY_AFTER_S: Final = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """`retryable`: the same call, unchanged, can succeed later."""

    status: int
    retryable: bool = False


T = ErrorType

FAULTS: Final[Mapping[ErrorType, Fault]] = MappingProxyType(
    {
        T.INVALID_REQUEST: Fault(400),
        T.UNAUTHENTICATED: Fault(401),
        T.FORBIDDEN: Fault(403),
        T.NOT_FOUND: Fault(404),
        T.UNKNOWN_SERVICE: Fault(404),
        T.UNKNOWN_INSTANCE: Fault(404),
        T.UNKNOWN_DEPLOYMENT: Fault(404),
        T.UNKNOWN_ROLLBACK: Fault(404),
        T.UNKNOWN_AGENT: Fault(404),
        T.UNKNOWN_JOIN_TOKEN: Fault(404),
        T.UNKNOWN_TOKEN: Fault(404),
        T.METHOD_NOT_ALLOWED: Fault(405),
        T.REQUEST_TIMEOUT: Fault(408),
        T.DEPLOY_ID_CONFLICT: Fault(409),
        T.IDEMPOTENCY_KEY_CONFLICT: Fault(409),
        T.INSTANCE_BUSY: Fault(409, retryable=True),  # once the operation that holds it has ended
        T.ALREADY_ENDED: Fault(409),
        T.NOT_ENDED: Fault(409, retryable=True),  # once it has
        T.NOTHING_FAILED: Fault(409),
        T.TOKEN_EXISTS: Fault(409),
        T.BODY_TOO_LARGE: Fault(413),
        T.UNSUPPORTED_MEDIA_TYPE: Fault(415),
        T.EXPECTATION_FAILED: Fault(417),
        T.TOO_MANY_REQUESTS: Fault(429, retryable=True),
        T.INTERNAL_ERROR: Fault(500),
        T.UNHEALTHY: Fault(503, retryable=True),
        T.UNAVAILABLE: Fault(503, retryable=True),
    }
)
_PLAIN: Final[Mapping[type[RefusalError], ErrorType]] = {
    ForbiddenError: T.FORBIDDEN,
    AlreadyEndedError: T.ALREADY_ENDED,
    NotEndedError: T.NOT_ENDED,
    NothingFailedError: T.NOTHING_FAILED,
}
"""Refusals that point at no field."""
_DIFFERS: Final = "differs from what was accepted"
_OTHER_CALL: Final = FieldError(pointer="Idempotency-Key", detail="was accepted for another call")
_UNKNOWN_OPERATION: Final = {
    OperationKind.DEPLOYMENT: (T.UNKNOWN_DEPLOYMENT, "deploy_id"),
    OperationKind.ROLLBACK: (T.UNKNOWN_ROLLBACK, "rollback_id"),
}


class ApiError(Exception):
    """A call that is answered with an error envelope. `data` is given by an unhealthy system alone."""

    def __init__(
        self,
        error_type: ErrorType,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        headers: Mapping[str, str] | None = None,
        data: SystemHealth | None = None,
    ) -> None:
        self.type, self.detail, self.errors, self.data = error_type, detail, tuple(errors), data
        self.headers = dict(headers or {})
        if self.fault.status in {429, 503}:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        super().__init__(detail)

    @property
    def fault(self) -> Fault:
        return FAULTS[self.type]


def invalid(problems: Sequence[FieldError]) -> ApiError:
    """All problems of a request at once; the list is cut at MAX_FIELD_ERRORS."""
    first = problems[0]
    where = f"{first.pointer}: " if first.pointer else ""
    more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
    detail = f"cannot accept the request: {where}{first.detail}{more}"
    return ApiError(T.INVALID_REQUEST, detail, problems[:MAX_FIELD_ERRORS])


def refused(error: RefusalError, body: Request | None) -> ApiError:
    """The answer to a refusal; what it names is pointed at in `body` where it came from there."""
    match error:
        case UnknownServiceError():
            return ApiError(
                T.UNKNOWN_SERVICE, str(error), [_point_at(body, "service", f"unknown: '{error.service}'")]
            )
        case UnknownInstanceError():
            problems = ((name, "no agent lists it") for name in error.instances)
            return ApiError(T.UNKNOWN_INSTANCE, str(error), _point_at_each(problems, body))
        case UnknownAgentError(agent_id=agent_id):
            fault = _point_at(body, "agent_id", f"unknown: '{agent_id}'")
            return ApiError(T.UNKNOWN_AGENT, str(error), [fault])
        case UnknownJoinTokenError(token_id=token_id):
            fault = _point_at(body, "token_id", f"unknown: '{token_id}'")
            return ApiError(T.UNKNOWN_JOIN_TOKEN, str(error), [fault])
        case InstanceBusyError():
            problems = ((h.instance_id, f"held by {h.kind} '{h.operation_id}'") for h in error.holders)
            return ApiError(T.INSTANCE_BUSY, str(error), _point_at_each(problems, body))
        case DeployIdConflictError():
            return ApiError(T.DEPLOY_ID_CONFLICT, str(error), [_point_at(body, error.field, _DIFFERS)])
        case IdempotencyKeyConflictError(field=field):
            fault = _point_at(body, field, _DIFFERS) if field else _OTHER_CALL
            return ApiError(T.IDEMPOTENCY_KEY_CONFLICT, str(error), [fault])
        case UnknownOperationError():
            unknown, parameter = _UNKNOWN_OPERATION[error.kind]
            return ApiError(
                unknown, str(error), [_point_at(body, parameter, f"unknown: '{error.operation_id}'")]
            )
        case UnknownTokenError(name=name):
            return ApiError(T.UNKNOWN_TOKEN, str(error), [_point_at(body, "name", f"unknown: '{name}'")])
        case TokenExistsError():
            return ApiError(T.TOKEN_EXISTS, str(error), [_point_at(body, "name", "is taken")])
        case _ if (error_type := _PLAIN.get(type(error))) is not None:
            return ApiError(error_type, str(error))
        case _:
            raise TypeError(f"no error type is listed for {type(error).__name__}") from error


def unavailable() -> ApiError:
    """The database did not answer. Its own words stay in the log."""
    return ApiError(T.UNAVAILABLE, "cannot reach the database just now; make the same call again")


def _point_at(body: Request | None, field: str, detail: str) -> FieldError:
    """A JSON Pointer where the body has the field, else the name of the parameter in the URL."""
    in_body = body is not None and field in type(body).model_fields
    return FieldError(pointer=f"/{field}" if in_body else field, detail=detail)


def _point_at_each(problems: Iterable[tuple[str, str]], body: Request | None) -> list[FieldError]:
    """Name each instance, and where it stands in the body's list if it came in one."""
    index = {name: at for at, name in enumerate(getattr(body, "instances", ()))}
    return [
        _point_at(body, "instance_id", f"instance '{name}': {why}")
        if name not in index
        else FieldError(pointer=f"/instances/{index[name]}", detail=f"instance '{name}': {why}")
        for name, why in islice(problems, MAX_FIELD_ERRORS)
    ]
