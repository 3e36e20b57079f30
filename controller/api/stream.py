"""A release log as server-sent events (HTML Living Standard, 9.2): what is there, then what comes.

Each stream holds one page of the log at most and no connection to the database while it writes. A reader that
does not take what it is sent is cut off; it can go on from its last id."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from controller.bulletin import Subscription
from controller.core.lists import LogPage
from controller.core.refusals import StoreUnavailableError
from releasehand.model import ENDED, EndOfLog, OperationKind, ReleaseEvent, ReleaseLog
from releasehand.shown import escape_json
from shared.logs import get_log

from .deps import ApiDeps
from .errors import ApiError
from .middleware import standard_headers
from .routing import Call

MEDIA_TYPE: Final = "text/event-stream"
PAGE: Final = 50
"""Events that are held for one reader; a host's log tail has up to 64 Ki characters."""
PAUSE_S: Final = 0.2
"""Between two looks for one reader: a busy operation changes many times a second."""
RECONNECT_MS: Final = 2_000
KEEP_ALIVE: Final = b": keep-alive\n\n"

AnyCall = Call[Any, Any]

log = get_log(__name__)


class SlowReaderError(Exception):
    """It did not take what it was sent for too long."""


def asks_for_stream(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) names event streams, and JSON not before them."""
    weights: dict[str, float] = {}
    for media_range in accept.split(","):
        name, *parameters = media_range.split(";")
        weights[name.strip().lower()] = _weight(parameters)
    stream = weights.get(MEDIA_TYPE, 0.0)
    return stream > 0 and stream >= weights.get("application/json", 0.0)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def stream_log(
    call: AnyCall, request: web.Request, kind: OperationKind, page: LogPage
) -> web.StreamResponse:
    """Send the log until the operation has ended, the reader is gone, the caller's token is no longer in
    force, or the controller stops.

    Raises UnknownOperationError, and ApiError when too many streams are open, before anything is sent."""
    page = replace(page, limit=PAGE)
    deps, operation_id, caller = call.deps, call.name, call.caller
    with deps.streams.take(caller.name), deps.bulletin.subscribe(kind, operation_id) as news:
        first = await deps.store.release_log(kind, operation_id, page)
        response = web.StreamResponse(headers=standard_headers(request))
        response.content_type = MEDIA_TYPE
        response.headers["X-Accel-Buffering"] = "no"  # nginx would keep it back
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            async with (
                deps.leases.hold(caller.token_id),
                aclosing(_tell(deps, kind, operation_id, page, first, news)) as chunks,
            ):
                async for chunk in chunks:
                    await _send(response, chunk, deps.slow_reader_s)
        except ApiError as exc:  # the reader comes back, and is told then
            log.info("stream was ended", caller=caller.name, operation_id=operation_id, reason=exc.detail)
        except SlowReaderError:
            log.warning("slow reader was cut off", caller=caller.name, operation_id=operation_id)
            _cut(request)
        except ConnectionError:
            pass  # the reader went away
        except StoreUnavailableError as exc:  # the reader comes back with its last id
            log.warning("stream was ended", operation_id=operation_id, reason=str(exc))
        except Exception:  # noqa: BLE001 - an answer has begun: the envelope of errors would stand inside it
            log.crash("stream met a bug", operation_id=operation_id)
            _cut(request)
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _tell(
    deps: ApiDeps,
    kind: OperationKind,
    operation_id: str,
    page: LogPage,
    told: ReleaseLog,
    news: Subscription,
) -> AsyncGenerator[bytes, None]:
    """The bytes of the stream, as they come."""
    yield b"retry: %d\n\n" % RECONNECT_MS
    while True:
        for event in told.events:
            yield _frame(event)
        if not told.has_more:
            if told.status in ENDED:
                yield _end(told)
                return
            if deps.bulletin.closed:
                return
            if await news.wait(deps.keep_alive_s):
                await deps.clock.sleep(PAUSE_S)
            else:
                yield KEEP_ALIVE  # and a look: a lost notice costs seconds, never an event
        page = replace(page, after=told.next_after)
        told = await deps.store.release_log(kind, operation_id, page)


def _frame(event: ReleaseEvent) -> bytes:
    """JSON has no line ends in it."""
    return f"id: {event.id}\nevent: {event.kind}\ndata: {escape_json(event.model_dump_json())}\n\n".encode()


def _end(told: ReleaseLog) -> bytes:
    """Without an id: who comes back after it is told it again."""
    end = EndOfLog(deploy_id=told.deploy_id, rollback_id=told.rollback_id, status=told.status)
    return f"event: end_of_log\ndata: {end.model_dump_json()}\n\n".encode()


async def _send(response: web.StreamResponse, chunk: bytes, limit_s: float) -> None:
    """Returns once there is room for more. Raises SlowReaderError, ConnectionError."""
    try:
        async with asyncio.timeout(limit_s):
            await response.write(chunk)
    except TimeoutError:
        raise SlowReaderError from None
