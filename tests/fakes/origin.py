"""A package origin: a real HTTPS server with an authority of its own, and many ways to misbehave."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CHUNK_BYTES = 64 * 1024


@dataclass
class Origin:
    """What it serves is in `paths`; what it was asked is in `requests` (raw path with query, and headers)."""

    base_url: str
    ca_file: Path
    paths: dict[str, Behaviour] = field(default_factory=dict)
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left before its answer was complete."""

    def url(self, path: str) -> str:
        return self.base_url + path

    def serve(self, path: str, behaviour: Behaviour) -> str:
        """Answer `path` like that from now on; return its URL."""
        self.paths[path] = behaviour
        return self.url(path)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.raw_path, dict(request.headers)))
        behaviour = self.paths.get(request.path)
        if behaviour is None:
            return web.Response(status=404, text="nothing here")
        try:
            return await behaviour(request)
        except (ConnectionError, asyncio.CancelledError):
            self.gone.set()
            raise


def content(data: bytes) -> Behaviour:
    """All of it, with its length."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=data)

    return answer


def unmeasured(data: bytes) -> Behaviour:
    """All of it, chunked, its length not told."""
    return _stream(None, data)


def short(data: bytes, stated: int) -> Behaviour:
    """Fewer bytes than were promised, then a closed connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, stated)
        await response.write(data)
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def gated(data: bytes, gate: asyncio.Event, *, stated: int | None = None) -> Behaviour:
    """`data` at once; the rest of what was stated, as zeros, when `gate` opens."""

    async def answer(request: web.Request) -> web.StreamResponse:
        length = len(data) if stated is None else stated
        response = await _begin(request, length)
        await response.write(data)
        await gate.wait()
        await response.write(bytes(length - len(data)))
        return response

    return answer


def endless() -> Behaviour:
    """Zeros until the client goes away."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, None)
        while True:
            await response.write(bytes(_CHUNK_BYTES))

    return answer


def status(code: int) -> Behaviour:
    """An answer without a package."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="no")

    return answer


def redirect(location: str, code: int = 302) -> Behaviour:
    """Somewhere else."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers={"Location": location})

    return answer


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first for the first request and so on; the last for ever: `in_turn(status(503), content(x))`."""
    waiting = list(behaviours)

    async def answer(request: web.Request) -> web.StreamResponse:
        behaviour = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return await behaviour(request)

    return answer


def _stream(stated: int | None, data: bytes) -> Behaviour:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, stated)
        for at in range(0, len(data), _CHUNK_BYTES):
            await response.write(data[at : at + _CHUNK_BYTES])
        return response

    return answer


async def _begin(request: web.Request, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse()
    if length is not None:
        response.content_length = length
    await response.prepare(request)
    return response


@asynccontextmanager
async def run_origin(directory: Path) -> AsyncIterator[Origin]:
    """Serve on a free port of 127.0.0.1, named localhost, until the block ends. Files go to `directory`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    ca_file = directory / "origin-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    origin = Origin("", ca_file)
    app = web.Application()
    app.router.add_get("/{path:.*}", origin.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        origin.base_url = f"https://localhost:{port}"
        yield origin
    finally:
        with suppress(ConnectionError):
            await runner.cleanup()
