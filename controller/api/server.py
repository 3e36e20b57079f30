"""Serving the API on a socket: aiohttp's own, except that what is no HTTP is refused in the envelope too."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from controller.handshakes import listen
from releasehand.model import ErrorType
from shared.logs import get_log

from .answers import failure
from .application import HANDLER_ARGS
from .errors import ApiError
from .middleware import HEADERS, REQUEST_ID

DRAIN_S: Final = 5.0  # calls that run when the controller stops are given so long
BACKLOG: Final = 1_024
MAX_CONNECTIONS: Final = 1_000
ANSWER_DEADLINE_S: Final = 60.0  # a client that has not taken its answer by then is cut off
CROWDED_LINGER_S: Final = 1.0
HANDSHAKE_S: Final = 10.0  # a client that has not spoken TLS by then is cut off

log = get_log(__name__)


class EnvelopeProtocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("_answer_deadline_s",)

    def __init__(self, manager: web.Server, *, answer_deadline_s: float, **more: Any) -> None:
        super().__init__(manager, **more)
        self._answer_deadline_s = answer_deadline_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let what was not taken by the client be seen at once: see `finish_response`."""
        if isinstance(transport, asyncio.WriteTransport):
            # 0 would not do over TLS: asyncio's SSLProtocol pauses a writer whose buffer is not below the
            # limit, and so one that is empty, which nothing lets go on.
            transport.set_write_buffer_limits(high=1)
        super().connection_made(transport)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; a client that does not take it in time is cut off, for it holds a connection."""
        try:
            async with asyncio.timeout(self._answer_deadline_s):
                finished = await super().finish_response(request, resp, start_time)
                await request.writer.drain()
        except TimeoutError:
            log.info("client did not take its answer", path=request.path)
            if isinstance(self.transport, asyncio.WriteTransport):
                self.transport.abort()
            raise ConnectionResetError("the client does not take its answer") from None
        return finished

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


class CrowdedProtocol(asyncio.Protocol):
    """A connection beyond the limit: told so at once, and closed whatever it says."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        error = ApiError(
            ErrorType.TOO_MANY_REQUESTS, f"cannot take one more connection: {self._limit} are open"
        )
        response = failure(error, request_id := uuid4().hex)
        body = response.body
        assert isinstance(body, bytes)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            REQUEST_ID: request_id,
            **error.headers,
            **HEADERS,
        }
        lines = ["HTTP/1.1 429 Too Many Requests", *(f"{name}: {value}" for name, value in headers.items())]
        transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        if transport.can_write_eof():  # over TLS there is no half of a connection
            transport.write_eof()
        # what it sends is read for a moment: a reset could overtake the answer
        asyncio.get_running_loop().call_later(CROWDED_LINGER_S, transport.abort)


@asynccontextmanager
async def serve_api(
    api: web.Application,
    host: str,
    port: int,
    *,
    max_connections: int = MAX_CONNECTIONS,
    answer_deadline_s: float = ANSWER_DEADLINE_S,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve until the block ends, over HTTPS with `tls`; yields the address with its real port. Raises
    OSError."""
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(api, access_log=None, shutdown_timeout=DRAIN_S)
    await runner.setup()
    try:
        manager = runner.server
        if manager is None:
            raise RuntimeError("cannot serve: the application was not set up")

        def connect() -> asyncio.Protocol:
            if len(manager.connections) >= max_connections:
                return CrowdedProtocol(max_connections)
            return EnvelopeProtocol(manager, loop=loop, answer_deadline_s=answer_deadline_s, **HANDLER_ARGS)

        handshake_s = HANDSHAKE_S if tls else None
        async with AsyncExitStack() as listening:
            sockets = await listen(host, port)
            for one in sockets:
                listening.callback(one.close)
            for one in sockets:
                server = await loop.create_server(
                    connect, sock=one, backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=handshake_s
                )
                listening.callback(server.close)
            bound_host, bound_port = sockets[0].getsockname()[:2]
            scheme = "https" if tls else "http"
            yield f"{scheme}://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    finally:
        await runner.cleanup()
