"""Serving the API on a socket: aiohttp's own, except that what is no HTTP is refused in the envelope too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from aiohttp import web

from releasehand.model import ErrorType
from shared.logs import get_log

from .answers import failure
from .application import HANDLER_ARGS
from .errors import ApiError
from .middleware import HEADERS, REQUEST_ID

DRAIN_S: Final = 5.0  # calls that run when the controller stops are given so long
BACKLOG: Final = 1_024

log = get_log(__name__)


class EnvelopeProtocol(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that aiohttp cannot read, and close the connection.

        Raises ConnectionError when an answer has begun."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        request_id = uuid4().hex
        if status < 500:
            error = ApiError(ErrorType.INVALID_REQUEST, "this is not an HTTP request that can be read")
            log.info("request was unreadable", request_id=request_id, reason=str(exc or message)[:200])
        else:
            detail = "the controller failed; its log has more under this request_id"
            error = ApiError(ErrorType.INTERNAL_ERROR, detail)
            log.error("request failed outside its handler", request_id=request_id, reason=repr(exc))
        response = failure(error, request_id)
        response.headers[REQUEST_ID] = request_id
        response.headers.update(HEADERS)
        response.force_close()
        return response


@asynccontextmanager
async def serve_api(api: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve until the block ends; yields the address with its real port. Raises OSError."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(api, access_log=None, shutdown_timeout=DRAIN_S)
    await runner.setup()
    try:
        manager = runner.server
        if manager is None:
            raise RuntimeError("cannot serve: the application was not set up")

        def connect() -> EnvelopeProtocol:
            return EnvelopeProtocol(manager, loop=loop, **HANDLER_ARGS)

        listener = await loop.create_server(connect, host, port, backlog=BACKLOG)
        try:
            bound_host, bound_port = listener.sockets[0].getsockname()[:2]
            yield f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
        finally:
            listener.close()
    finally:
        await runner.cleanup()
