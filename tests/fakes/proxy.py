"""A TCP proxy between two real peers that loses their link on demand: cut, half-open, or cut at a byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.fakes.processes import HERE

_CHUNK_BYTES = 16 * 1024


class Proxy:
    """Forwards bytes as they are. TCP neither duplicates nor reorders, so neither does this."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        """How many links were cut by `cut_after`."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self._budgets: dict[str, list[int]] = {"up": [], "down": []}

    @property
    def links(self) -> int:
        """How many connections are open, each counted once."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """Reset every connection: neither side hears a proper end."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Make the connections of now half-open: they stay, and nothing comes through. New ones work."""
        self._frozen |= self._writers

    def cut_after(self, *bytes_left: int, way: str) -> None:
        """Reset the next connection when so many bytes went `way` ("up" to the target, or "down"); the one
        after it by the next number, and so on."""
        self._budgets[way] += bytes_left

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(HERE, self.target_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        up, down = (queue.pop(0) if (queue := self._budgets[way]) else None for way in ("up", "down"))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, far_writer, up, both))
                group.create_task(self._forward(far_reader, writer, down, both))
        finally:
            self._writers -= both
            self._frozen -= both
            for one in both:
                one.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: int | None,
        both: set[asyncio.StreamWriter],
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if writer in self._frozen:
                    continue  # swallowed: what the kernel took is lost when the link ends
                if budget is not None and len(data) >= budget:
                    writer.write(data[:budget])
                    await writer.drain()
                    self.cuts += 1
                    break
                budget = None if budget is None else budget - len(data)
                writer.write(data)
                await writer.drain()
            else:
                if writer in self._frozen:
                    await asyncio.Event().wait()  # the far side is not told of this end either
                if writer.can_write_eof():
                    writer.write_eof()
                    return
        for one in both:
            one.transport.abort()


@asynccontextmanager
async def run_proxy(target_port: int, *, port: int = 0) -> AsyncIterator[Proxy]:
    """Listen on `port` of this host, or a free one, until the block ends; then every link is reset."""
    proxy = Proxy(target_port)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the server makes one for each connection"
        serving.add(task)
        with suppress(asyncio.CancelledError):
            await proxy.serve(reader, writer)
        serving.discard(task)

    server = await asyncio.start_server(serve, HERE, port)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        for task in list(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving, timeout=5)
