"""A package origin: a real HTTPS server with an authority of its own, and many ways to misbehave."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CHUNK_BYTES = 64 * 1024
NAMES = ("packages.test", "mirror.test")
"""The certificate is good for these too; that they lead here is a test's resolver's matter."""


@dataclass
class Origin:
    """What it serves is in `paths`; what it was asked is in `requests` (raw path with query, and headers)."""

    base_url: str
    ca_file: Path
    paths: dict[str, Behaviour] = field(default_factory=dict)
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left before its answer was complete."""

    def url(self, path: str, host: str = "localhost") -> str:
        return self.base_url.replace("localhost", host) + path

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2])

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


@dataclass
class Ranged:
    """A behaviour by RFC 9110, with ETag, Range and If-Range. A test may change its fields as it goes on."""

    data: bytes
    etag: str = '"one"'
    last_modified: str = ""
    cuts: list[int] = field(default_factory=list)
    """Each answer breaks off after the next of these numbers of bytes; the rest come whole."""
    hold_at: int | None = None
    """Stop at this byte of the package until `gate` opens."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    measured: bool = True
    """Whether a length is told."""
    lie: Callable[[dict[str, str]], None] = lambda _: None
    """Gets the headers of a 206 answer, to change them."""
    ranges: list[str] = field(default_factory=list)
    """What was asked for: the Range of each request, "" for none."""
    sent_bytes: int = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        asked = request.headers.get("Range", "")
        self.ranges.append(asked)
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(found[1]) if found and self._is_same(request.headers.get("If-Range")) else 0
        if start >= len(self.data) > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(self.data)}"})
        response = web.StreamResponse(status=206 if start else 200, headers=self._headers(start))
        if self.measured:
            response.content_length = len(self.data) - start
        await response.prepare(request)
        stop = min(len(self.data), start + self.cuts.pop(0)) if self.cuts else len(self.data)
        while start < stop:
            if start == self.hold_at:
                await self.gate.wait()
            end = min(stop, start + _CHUNK_BYTES)
            if self.hold_at is not None and start < self.hold_at:
                end = min(end, self.hold_at)
            await response.write(self.data[start:end])
            self.sent_bytes += end - start
            start = end
        if stop < len(self.data):
            assert request.transport is not None
            request.transport.close()
        return response

    def _is_same(self, if_range: str | None) -> bool:
        return if_range is None or if_range in {self.etag, self.last_modified}

    def _headers(self, start: int) -> dict[str, str]:
        headers = {"ETag": self.etag, "Last-Modified": self.last_modified}
        headers = {name: value for name, value in headers.items() if value}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
            self.lie(headers)
        return headers


def zeros(size: int) -> Behaviour:
    """`size` zero bytes that are nowhere held as a whole."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _begin(request, size)
        chunk = bytes(_CHUNK_BYTES)
        for at in range(0, size, _CHUNK_BYTES):
            await response.write(chunk[: size - at])
        return response

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
    authority.issue_cert("localhost", "127.0.0.1", *NAMES).configure_cert(context)
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
