"""The aiohttp application, made from the table of routes."""

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from aiohttp import web

from releasehand.model import HealthStatus

from .authentication import Callers
from .body import MAX_BODY_BYTES
from .deps import DEPS, ApiDeps
from .endpoint import AioHandler, answer_expect, make_endpoint
from .install import make_install_handlers
from .middleware import answer_every_request, method_not_allowed, not_found
from .openapi import build_document
from .rates import Rates
from .routes import ROUTES

HANDLER_ARGS: Final[Mapping[str, Any]] = {
    "auto_decompress": False,  # a compressed body is refused, not unpacked
    "keepalive_timeout": 75.0,  # also of a connection whose first request does not come, or not whole
    "lingering_time": 2.0,  # what is left of a refused body is read for so long, that the refusal arrives
    "max_line_size": 64 * 1024,  # of the request line; what is longer is no request that can be read
}


def make_api(deps: ApiDeps) -> web.Application:
    """The application, ready to be served. Stopping it lets all waiting calls go (their rows are read once
    more)."""
    app = web.Application(
        middlewares=[answer_every_request],
        client_max_size=MAX_BODY_BYTES,
        handler_args=dict(HANDLER_ARGS),
    )
    app[DEPS] = deps
    callers, rates = (
        Callers(deps.tokens, deps.store, deps.clock),
        Rates(deps.rates, deps.failure_rates, deps.clock),
    )
    handlers: dict[str, dict[str, AioHandler]] = {}
    for route in ROUTES:
        handlers.setdefault(route.path, {})[route.method] = make_endpoint(route, deps, callers, rates)
    for path, handler in {**_plain_handlers(deps), **make_install_handlers(deps, rates)}.items():
        handlers[path] = {"GET": handler}
    for path, by_method in handlers.items():
        _add_path(app, path, by_method)
    app.router.add_route("*", "/{rest:.*}", _refuse_path, expect_handler=answer_expect)

    async def release_waiters(_app: web.Application) -> None:
        deps.bulletin.close()

    app.on_shutdown.append(release_waiters)
    return app


def _add_path(app: web.Application, path: str, by_method: dict[str, AioHandler]) -> None:
    """Every method of a path has a handler of ours, so that what is refused looks like everything else."""
    allowed = set(by_method) | ({"HEAD"} if "GET" in by_method else set())

    async def refuse_method(request: web.Request) -> web.Response:
        raise method_not_allowed(request, allowed)

    resource = app.router.add_resource(path.replace("}", ":[^/]+}"))  # any text: what is no name is told so
    for method, handler in by_method.items():
        resource.add_route(method, handler, expect_handler=answer_expect)
        if method == "GET":
            resource.add_route("HEAD", handler, expect_handler=answer_expect)
    resource.add_route("*", refuse_method, expect_handler=answer_expect)


def _plain_handlers(deps: ApiDeps) -> dict[str, AioHandler]:
    """Answers without envelope or token: the document, and the probes of process supervisors and load
    balancers."""

    async def openapi(_request: web.Request) -> web.Response:
        document = await asyncio.to_thread(_document, deps.version)
        return web.Response(body=document, content_type="application/json")

    async def livez(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        status = (await deps.health()).status
        return web.json_response({"status": status}, status=503 if status is HealthStatus.UNHEALTHY else 200)

    return {"/openapi.json": openapi, "/livez": livez, "/readyz": readyz}


@cache
def _document(version: str) -> bytes:
    """Made when it is first asked for, and once: it takes longer than all else of a start."""
    return build_document(ROUTES, version=version)


async def _refuse_path(request: web.Request) -> web.Response:
    raise not_found(request)
