"""Reading server-sent events as the standard says (HTML Living Standard, 9.2.6)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import ClientResponse


@dataclass(slots=True)
class Sent:
    """One event, or a comment where `event` is ""."""

    event: str = ""
    data: str = ""
    id: str = ""
    comments: list[str] = field(default_factory=list)


async def read_events(response: ClientResponse) -> AsyncIterator[Sent]:
    """What comes, block by block, until the stream ends."""
    block = Sent()
    async for line in response.content:
        text = line.decode().rstrip("\n")
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not text:
            yield block
            block = Sent()
        elif not name:
            block.comments.append(value)
        elif name == "data":
            block.data += value
        elif name in {"event", "id"}:
            setattr(block, name, value)
