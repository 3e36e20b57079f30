"""What every request goes through: an id, and one place where errors become answers and are logged."""

import re
from typing import Final
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

from controller.core.refusals import StoreUnavailableError
from releasehand.model import ErrorType
from shared.logs import get_log

from .answers import failure
from .body import too_large
from .deps import DEPS
from .errors import ApiError, unavailable

REQUEST_ID: Final = "X-Request-Id"
CALLER: Final = web.RequestKey("caller", str)
ID: Final = web.RequestKey("id", str)
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:@=+/-]{1,128}\Z")
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "releasehand"}

log = get_log(__name__)


@web.middleware
async def answer_every_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take over or make the request's id, turn what is raised into an envelope, log one line at the end."""
    clock, started = request.app[DEPS].clock, request.app[DEPS].clock.monotonic()
    request_id = request.headers.get(REQUEST_ID, "")
    if not _SANE_ID.match(request_id):
        request_id = uuid4().hex
    request[ID] = request_id
    try:
        response = await handler(request)
    except Exception as exc:  # noqa: BLE001 - the border: whatever it is, the caller gets an envelope
        response = failure(_translate(exc, request, request_id), request_id)
    if not response.prepared:
        response.headers.update(standard_headers(request))
    log.info(
        "request answered",
        request_id=request_id,
        method=request.method,
        path=request.path,  # without the query
        status=response.status,
        caller=request.get(CALLER, ""),
        duration_ms=round((clock.monotonic() - started) * 1000, 1),
    )
    return response


def standard_headers(request: web.Request) -> dict[str, str]:
    """What every answer carries; a handler that begins its answer itself puts them there."""
    return {REQUEST_ID: request[ID], **HEADERS}


def _translate(error: Exception, request: web.Request, request_id: str) -> ApiError:
    match error:
        case ApiError():
            return error
        case StoreUnavailableError():
            log.warning("store was unavailable", request_id=request_id, reason=str(error))
            return unavailable()
        case web.HTTPRequestEntityTooLarge():
            return too_large()
        case web.HTTPMethodNotAllowed():
            return method_not_allowed(request, error.allowed_methods)
        case web.HTTPNotFound():
            return not_found(request)
        case _:
            log.crash("request failed", request_id=request_id, method=request.method, path=request.path)
            detail = "the controller failed; its log has more under this request_id"
            return ApiError(ErrorType.INTERNAL_ERROR, detail)


def not_found(request: web.Request) -> ApiError:
    return ApiError(ErrorType.NOT_FOUND, f"there is nothing at {request.path[:256]}")


def method_not_allowed(request: web.Request, allowed: set[str]) -> ApiError:
    methods = ", ".join(sorted(allowed))
    return ApiError(
        ErrorType.METHOD_NOT_ALLOWED,
        f"{request.method} is not possible here, but {methods} is",
        headers={"Allow": methods},
    )
