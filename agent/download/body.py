"""The bytes of an answer, put where they are wanted.

aiohttp copies a body three times on its way, in pieces that the allocator maps and unmaps. So an answer that
tells its length is taken from it once its headers are read: the connection gets another protocol, and TLS
decrypts straight into the caller's block. That halves the processor time of a download."""

import asyncio
from typing import Final, Protocol

import aiohttp

_TOO_SHORT: Final = "the connection ended before the body"
_RECORD_BYTES: Final = 16 * 1024  # what TLS may have taken in beside what it says is pending (RFC 8446 5.1)


class Body(Protocol):
    """What comes behind the headers of one answer."""

    async def read_into(self, view: memoryview) -> int:
        """Put the next bytes into `view`, as many as are there; return how many, 0 at the end. One at a time.

        Safe to cancel: the bytes of a cancelled call may be lost, and nothing is put into `view` afterwards.
        Raises aiohttp.ClientError."""
        ...


def open_body(response: aiohttp.ClientResponse, *, silent_s: float) -> Body:
    """Return the body of `response`, of which nothing was read yet. Its reading fails with SocketTimeoutError
    when nothing comes for `silent_s` seconds."""
    length, connection = response.content_length, response.connection
    if connection is None or length is None or "Transfer-Encoding" in response.headers:
        return ParsedBody(response.content)
    early = bytearray()
    while chunk := response.content.read_nowait():  # what came together with the headers
        early += chunk
    handler, transport = connection.protocol, connection.transport
    if handler is None or transport is None or len(early) >= length:
        return ParsedBody(response.content, bytes(early))
    handler.read_timeout = None  # it sees no byte from now on, and would take that for silence
    handler.start_timeout()
    return DirectBody(transport, handler, bytes(early), length - len(early), silent_s)


class ParsedBody:
    """A body that aiohttp has to take apart, such as a chunked one."""

    def __init__(self, content: aiohttp.StreamReader, early: bytes = b"") -> None:
        self._content, self._early = content, early

    async def read_into(self, view: memoryview) -> int:
        """See Body."""
        if not self._early:
            self._early = await self._content.readany()
        size = min(len(view), len(self._early))
        view[:size] = self._early[:size]
        self._early = self._early[size:]
        return size


class DirectBody(asyncio.BufferedProtocol):
    """A body of known length, straight from the connection. The connection is of no use afterwards."""

    def __init__(
        self,
        transport: asyncio.Transport,
        before: asyncio.BaseProtocol,
        early: bytes,
        missing: int,
        silent_s: float,
    ) -> None:
        """`before` had the connection, and is told when it is lost. `early` bytes are here, `missing` are
        not."""
        self._transport, self._before = transport, before
        self._early, self._missing, self._silent_s = early, missing, silent_s
        self._view = self._landing = memoryview(b"")
        self._arrival: asyncio.Future[int] | None = None
        self._lost = False
        transport.pause_reading()  # until somebody reads
        transport.set_protocol(self)

    async def read_into(self, view: memoryview) -> int:
        """See Body."""
        if self._early:
            size = min(len(view), len(self._early))
            view[:size] = self._early[:size]
            self._early = self._early[size:]
            return size
        if not self._missing:
            return 0
        if self._lost:
            raise aiohttp.ClientPayloadError(_TOO_SHORT)
        self._view = view
        self._arrival = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            async with asyncio.timeout(self._silent_s):
                size = await self._arrival
        except BaseException as exc:
            self._transport.abort()
            if isinstance(exc, TimeoutError):
                raise aiohttp.SocketTimeoutError("nothing came") from None
            raise
        finally:
            self._view, self._arrival = memoryview(b""), None
        if not self._missing and not self._lost:
            self._transport.resume_reading()  # all that follows is its end
        return size

    # called by the transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol. What is there must fit: behind the end of the connection a transport
        asks only once."""
        pending = max(sizehint, 0) + _RECORD_BYTES
        if len(self._view) >= pending and self._missing >= pending:
            self._landing = memoryview(b"")
            return self._view
        self._landing = memoryview(bytearray(pending))
        return self._landing

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._transport.pause_reading()  # the view is the reader's again
        if self._landing:
            nbytes = min(nbytes, self._missing)
            size = min(nbytes, len(self._view))
            self._view[:size] = self._landing[:size]
            self._early = bytes(self._landing[size:nbytes])
        else:
            size = nbytes
        self._missing -= nbytes
        if size and self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(size)

    def eof_received(self) -> bool:
        """See asyncio.BufferedProtocol. The transport closes itself."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BufferedProtocol."""
        self._end()
        self._before.connection_lost(exc)

    def _end(self) -> None:
        self._lost = True
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_exception(aiohttp.ClientPayloadError(_TOO_SHORT))
