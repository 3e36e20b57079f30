"""What a call to the controller can end with. No HTTP library is imported here: catching costs nothing."""

import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

EXCERPT_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """One field's fault. `pointer` is a JSON Pointer (RFC 6901) into the body, or the parameter's name."""

    pointer: str
    detail: str


class ReleasehandError(Exception):
    """The root of everything the client raises."""


class ConnectionFailedError(ReleasehandError):
    """No answer came: refused, cut, not resolved, not trusted, or too slow.

    Whether the controller acted is not known; each call of the client is safe to repeat with its id or key.
    `retryable` is False where repeating cannot help, as with a certificate that is not trusted."""

    def __init__(self, url: str, reason: str, *, retryable: bool = True) -> None:
        self.url, self.reason, self.retryable = url, reason, retryable
        super().__init__(f"cannot reach {url}: {reason}")


class BadAnswerError(ReleasehandError):
    """Something answered, and not as a releasehand controller does.

    `status` is the HTTP status; `excerpt` the beginning of the body, at most 200 characters, not escaped."""

    def __init__(self, status: int, reason: str, excerpt: str = "") -> None:
        self.status, self.reason, self.excerpt = status, reason, excerpt
        super().__init__(f"cannot read the answer (HTTP {status}): {reason}")


class ApiError(ReleasehandError):
    """The controller refused; all that it said is here.

    `type` is a word of `releasehand.model.ErrorType`, or one that a newer controller made up, or "" when a
    proxy in front of it answered. `retryable`: the same call may succeed later."""

    def __init__(
        self,
        *,
        status: int,
        type: str,  # noqa: A002 - the field's name on the wire
        detail: str,
        errors: Sequence[Fault] = (),
        request_id: str = "",
        retryable: bool = False,
    ) -> None:
        self.status, self.type, self.detail = status, type, detail
        self.errors, self.request_id, self.retryable = tuple(errors), request_id, retryable
        faults = "".join(f"; {fault.pointer}: {fault.detail}" for fault in self.errors)
        super().__init__(f"{type or 'refused'} (HTTP {status}): {detail}{faults}")


class InvalidRequestError(ApiError):
    """The request itself is wrong (400, 413, 415, 422): correct it; `errors` names the fields."""


class UnauthenticatedError(ApiError):
    """The token is missing, unknown or expired (401): take another one."""


class NotFoundError(ApiError):
    """The service, instance or operation is not known (404); `type` says which."""


class ConflictError(ApiError):
    """The id or key was used for something else, or the operation has ended (409): repeating cannot help."""


class BusyError(ApiError):
    """Another operation holds an instance (409 `instance_busy`): wait for it, or roll back with `force`."""


class UnavailableError(ApiError):
    """The controller cannot answer now (429, 502, 503, 504): the client has already tried several times."""


class WaitTimeoutError(ReleasehandError):
    """The operation had not ended when the time to wait was over. It goes on.

    `last_status` is the last DeployStatus or RollbackStatus that was seen."""

    def __init__(self, operation_id: str, timeout_s: float, last_status: object) -> None:
        self.operation_id, self.timeout_s, self.last_status = operation_id, timeout_s, last_status
        super().__init__(f"cannot wait longer for {operation_id}: it has not ended within {timeout_s:g} s")


def read_refusal(status: int, content: bytes) -> ApiError | BadAnswerError:
    """The error that an HTTP answer other than success means.

    Lenient on purpose: whatever can be understood is told, the new words of newer controllers too."""
    answer = parse_json(content)
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        chosen = _BY_STATUS.get(status, ApiError)
        if error.get("type") == "instance_busy":
            chosen = BusyError
        faults = error.get("errors")
        return chosen(
            status=status,
            type=str(error.get("type", "")),
            detail=str(error.get("detail", "")),
            errors=[
                Fault(str(fault.get("pointer", "")), str(fault.get("detail", "")))
                for fault in (faults if isinstance(faults, list) else [])
                if isinstance(fault, dict)
            ],
            request_id=str(error.get("request_id", "")),
            retryable=error.get("retryable") is True,
        )
    if _BY_STATUS.get(status) is UnavailableError:
        detail = excerpt(content) or "no explanation"
        return UnavailableError(status=status, type="", detail=detail, retryable=True)
    if 300 <= status < 400:
        return BadAnswerError(status, "it redirects; give the address that it leads to", excerpt(content))
    return BadAnswerError(status, "it is not from a releasehand controller", excerpt(content))


def reason_of(cause: BaseException) -> str:
    """Why no connection came about, in the words of TLS or of the system."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return f"the other side does not speak it as expected ({cause.reason})"
    if isinstance(cause, socket.gaierror):
        return (cause.strerror or str(cause)).lower()
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()
    return str(cause)


def parse_json(content: bytes) -> Any:
    """The value, or None for what is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def excerpt(content: bytes) -> str:
    """The beginning of a body, for an error's text."""
    return content[: EXCERPT_CHARS * 4].decode(errors="replace")[:EXCERPT_CHARS]


_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    400: InvalidRequestError,
    401: UnauthenticatedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
