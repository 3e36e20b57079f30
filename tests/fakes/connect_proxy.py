"""A forward proxy as companies have it: CONNECT alone, and it resolves names by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_CHUNK_BYTES = 64 * 1024


@dataclass
class ConnectProxy:
    """Takes every name for 127.0.0.1. `asked` holds the targets of CONNECT, `answer` what is said to them."""

    url: str = ""
    answer: str = "200 Connection established"
    asked: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        assert method == "CONNECT", "packages come by TLS, which a proxy cannot look into"
        self.asked.append(target)
        self.headers.append(head.partition("\r\n")[2])
        writer.write(f"HTTP/1.1 {self.answer}\r\n\r\n".encode())
        if not self.answer.startswith("200"):
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_relay(reader, far_writer))
                group.create_task(_relay(far_reader, writer))
        finally:
            far_writer.transport.abort()
            writer.transport.abort()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def run_connect_proxy() -> AsyncIterator[ConnectProxy]:
    """Listen on a free port of 127.0.0.1 until the block ends."""
    proxy = ConnectProxy()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the server makes one for each connection"
        serving.add(task)
        with suppress(asyncio.CancelledError, ConnectionError):
            await proxy.serve(reader, writer)
        serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving, timeout=5)
