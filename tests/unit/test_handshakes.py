"""How many TLS handshakes may be under way at the agents' port."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from controller.pki.handshake import TellingContext
from shared.clock import SystemClock
from shared.tls import client_context

LIMIT = 3


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "hub.pem")
    issued.private_key_pem.write_to_path(tmp_path / "hub.key")
    return tmp_path / "ca.pem"


@asynccontextmanager
async def listening(ca: Path, deadline_s: float) -> AsyncIterator[int]:
    """A server that says hello; its port."""
    context = TellingContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.with_name("hub.pem"), ca.with_name("hub.key"))
    context.max_handshakes = LIMIT

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=deadline_s)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greeting(port: int, ca: Path, stack: AsyncExitStack) -> bytes:
    """What a client is told that shakes hands; the connection stays open. Raises OSError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(ca))
    stack.callback(writer.close)
    return await reader.read(5)


async def until_greeted(port: int, ca: Path, stack: AsyncExitStack) -> bytes:
    async with asyncio.timeout(20):
        while True:
            try:
                return await greeting(port, ca, stack)
            except OSError:
                await SystemClock().sleep(0.02)


async def test_those_that_are_done_do_not_count(ca: Path) -> None:
    async with AsyncExitStack() as stack, listening(ca, 10) as port:
        told = [await greeting(port, ca, stack) for _ in range(2 * LIMIT)]
    assert told == [b"hello"] * (2 * LIMIT)


@pytest.mark.parametrize("end", ["they hang up", "their time is over"])
async def test_beyond_the_bound_a_connection_is_closed_until_the_silent_ones_are_gone(
    ca: Path, end: str
) -> None:
    deadline_s = 1.5 if end == "their time is over" else 30.0
    async with AsyncExitStack() as stack, listening(ca, deadline_s) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LIMIT)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await greeting(port, ca, stack)
        if end == "they hang up":
            for _, writer in silent:
                writer.close()
        assert await until_greeted(port, ca, stack) == b"hello"
        for _, writer in silent:
            writer.close()
