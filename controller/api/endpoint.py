"""One route as an aiohttp handler: who calls, what is asked, the route's own function, the envelope."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import HttpVersion11, web
from pydantic import TypeAdapter

from controller.core.audit import Actor
from controller.core.refusals import RefusalError
from controller.core.written import Written
from releasehand.model import ActorKind, ErrorType, FieldError, Name, Request

from .answers import success, success_written
from .auditing import audit_failure
from .authentication import NOBODY, Caller, Callers, missing_scope
from .body import parse_body, read_body
from .deps import ApiDeps
from .errors import ApiError, invalid, refused
from .middleware import CALLER, ID
from .query import parse_query
from .rates import Rates
from .reach import check_reach
from .routing import AnyRoute, Call
from .stream import asks_for_stream

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
LAST_EVENT_ID: Final = "Last-Event-ID"
_KEY: Final = re.compile(r"[!-~]{1,128}\Z")
_EVENT_ID: Final = re.compile(r"[0-9]{1,18}\Z")
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)

AioHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_endpoint(route: AnyRoute, deps: ApiDeps, callers: Callers, rates: Rates) -> AioHandler:
    """The handler of a route; it raises ApiError, which the middleware turns into an answer."""
    adapters: dict[type, TypeAdapter[Any]] = {model: TypeAdapter(model) for model in route.answers}

    async def serve(request: web.Request) -> web.StreamResponse:
        _check_expectation(request)
        caller = await _identify(route, request, deps, callers, rates)
        request[CALLER] = caller.name
        kind = ActorKind.STRANGER if route.open else ActorKind.CALLER
        actor = Actor(caller.name, kind, request.remote or "", request[ID])
        call: Call[Any, Any] | None = None
        try:
            _check_scope(route, caller)
            call = await _parse(route, request, deps, caller, actor)
            return await _answer(call, request)
        except Exception as exc:
            if request.query.get("dry_run") != "true":
                name = request.match_info.get(route.path_name, "")
                await audit_failure(deps, route, actor, name, call.body if call else None, exc)
            raise

    async def _answer(call: Call[Any, Any], request: web.Request) -> web.StreamResponse:
        try:
            await check_reach(route, call)
            if route.stream is not None and asks_for_stream(request.headers.get("Accept", "")):
                return await route.stream(call, request)
            answer = await route.handler(call)
        except RefusalError as exc:
            raise refused(exc, call.body) from exc
        if isinstance(answer, Written):
            return success_written(answer)
        return success(adapters[type(answer)], answer)

    return serve


async def _identify(
    route: AnyRoute, request: web.Request, deps: ApiDeps, callers: Callers, rates: Rates
) -> Caller:
    """Who calls. Raises ApiError for a stranger, and for whoever calls too often; StoreUnavailableError."""
    peer = request.remote or ""
    if route.open:
        rates.count_peer(peer)
        return NOBODY
    try:
        caller = await callers.identify(request.headers.get("Authorization"))
    except ApiError as exc:
        deps.uses.failed(peer, request[ID], exc.detail)
        rates.count_failure(peer)
        raise
    deps.uses.used(caller.token_id, peer)
    rates.count_caller(caller.name)
    return caller


def _check_scope(route: AnyRoute, caller: Caller) -> None:
    if route.scope is not None and route.scope not in caller.grant.scopes:
        raise missing_scope(caller, route.scope)


async def _parse(
    route: AnyRoute, request: web.Request, deps: ApiDeps, caller: Caller, actor: Actor
) -> Call[Any, Any]:
    """Raises ApiError with all that is wrong with path, query, headers and body."""
    problems: list[FieldError] = []
    name = request.match_info.get(route.path_name, "")
    if route.path_name:
        problems += _check_name(route.path_name, name)
    query, wrong = parse_query(route.query, request.query)
    problems += wrong
    key = request.headers.get(IDEMPOTENCY_KEY) if route.takes_idempotency_key else None
    if key is not None and not _KEY.match(key):
        problems.append(
            FieldError(pointer=IDEMPOTENCY_KEY, detail="must be 1 to 128 visible ASCII characters")
        )
    last_event_id = request.headers.get(LAST_EVENT_ID) if route.stream is not None else None
    if last_event_id is not None and not _EVENT_ID.match(last_event_id):
        problems.append(FieldError(pointer=LAST_EVENT_ID, detail="must be the id of an event"))
    body: Request | None = None
    if route.request_model is not None:
        content = await read_body(request, deps.body_deadline_s)
        body, wrong = parse_body(route.request_model, content, required=route.body_required)
        problems += wrong
    if problems:
        raise invalid(problems)
    return Call(
        deps=deps,
        caller=caller,
        actor=actor,
        name=name,
        query=query,
        body=body,
        idempotency_key=key,
        last_event_id=None if last_event_id is None else int(last_event_id),
    )


def _check_name(parameter: str, name: str) -> list[FieldError]:
    try:
        _NAME.validate_python(name)
    except ValueError:
        detail = "is no name: 1 to 128 letters, digits or . _ + -, a letter or digit first, no '..'"
        return [FieldError(pointer=parameter, detail=detail)]
    return []


async def answer_expect(request: web.Request) -> None:
    """Say 100 Continue; an expectation that we do not know is refused by the handler, inside the
    middleware."""
    if request.version >= HttpVersion11 and _expectation(request) == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _check_expectation(request: web.Request) -> None:
    if _expectation(request) not in {"", "100-continue"}:
        raise ApiError(ErrorType.EXPECTATION_FAILED, "no expectation but 100-continue can be met")


def _expectation(request: web.Request) -> str:
    return request.headers.get("Expect", "").lower()
