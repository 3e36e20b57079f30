"""What stands around every answer under /v1, and the closed list of error types."""

from enum import StrEnum
from typing import Generic, TypeVar

from .fields import Answer
from .system import SystemHealth

DataT = TypeVar("DataT")


class ErrorType(StrEnum):
    """What went wrong with a call; `docs/reference/errors.md` says what to do about each."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    UNKNOWN_SERVICE = "unknown_service"
    UNKNOWN_INSTANCE = "unknown_instance"
    UNKNOWN_DEPLOYMENT = "unknown_deployment"
    UNKNOWN_ROLLBACK = "unknown_rollback"
    UNKNOWN_AGENT = "unknown_agent"
    UNKNOWN_JOIN_TOKEN = "unknown_join_token"
    UNKNOWN_TOKEN = "unknown_token"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    DEPLOY_ID_CONFLICT = "deploy_id_conflict"
    IDEMPOTENCY_KEY_CONFLICT = "idempotency_key_conflict"
    INSTANCE_BUSY = "instance_busy"
    ALREADY_ENDED = "already_ended"
    NOT_ENDED = "not_ended"
    NOTHING_FAILED = "nothing_failed"
    TOKEN_EXISTS = "token_exists"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    TOO_MANY_REQUESTS = "too_many_requests"
    INTERNAL_ERROR = "internal_error"
    UNHEALTHY = "unhealthy"
    UNAVAILABLE = "unavailable"


class FieldError(Answer):
    """One field's fault: `pointer` is a JSON Pointer (RFC 6901) into the body, or the parameter's name."""

    pointer: str
    detail: str


class ErrorBody(Answer):
    type: ErrorType
    detail: str
    errors: list[FieldError]
    request_id: str
    retryable: bool


class Envelope(Answer, Generic[DataT]):
    """A successful answer."""

    code: int
    message: str
    data: DataT


class ErrorEnvelope(Answer):
    """A refusal. `data` is null except for an unhealthy system, which still tells its whole health."""

    code: int
    message: str
    data: SystemHealth | None = None
    error: ErrorBody
