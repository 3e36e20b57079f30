"""Following a release log: server-sent events (HTML Living Standard, 9.2), gone on with after each cut."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import aiohttp
import yarl
from pydantic import ValidationError

from .connection import CONNECT_TIMEOUT_S, MAX_BACKOFF_S, PATIENCE_S, Connection, read_bounded
from .errors import BadAnswerError, ConnectionFailedError, UnavailableError, excerpt, read_refusal
from .model import ReleaseEvent

SILENCE_S: Final = 60.0
"""A controller says every 15 s that it is there; after four times that it is gone."""
MAX_EVENT_BYTES: Final = 2 * 1024 * 1024
END: Final = "end_of_log"


class Following(Connection):
    """Streams of release logs."""

    async def _follow(self, path: str, after: int, instance_id: str) -> AsyncGenerator[ReleaseEvent, None]:
        heard = self._clock.monotonic()
        while True:
            try:
                async with aclosing(self._stream(path, after, instance_id)) as stream:
                    async for name, data in stream:
                        heard = self._clock.monotonic()
                        if name == END:
                            return
                        if data:
                            event = _read_event(data)
                            after = event.id
                            yield event
            except (ConnectionFailedError, UnavailableError) as exc:
                if not exc.retryable or self._clock.monotonic() - heard >= PATIENCE_S:
                    raise
            await self._clock.sleep(self._dice.uniform(0, MAX_BACKOFF_S))

    async def _stream(
        self, path: str, after: int, instance_id: str
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        """Name and data of what one connection brings; a name "" is a sign of life."""
        query = {"instance_id": instance_id} if instance_id else None
        url = yarl.URL(self._base + path, encoded=True).with_query(query)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        bounds = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_S)
        async with self._request("GET", url, headers, None, bounds) as answer:
            if answer.status != 200:
                raise read_refusal(answer.status, await read_bounded(answer))
            if answer.content_type != "text/event-stream":
                raise BadAnswerError(answer.status, f"it is {answer.content_type}, no event stream")
            fields: dict[str, bytes] = {}
            async for line in _lines(answer):
                if line:
                    _take(line, fields)
                else:
                    yield fields.get("event", b"").decode(errors="replace"), fields.get("data", b"")
                    fields = {}


def _take(line: bytes, fields: dict[str, bytes]) -> None:
    """Our events have one line of data each."""
    name, _, value = line.partition(b":")
    fields[name.decode(errors="replace")] = value.removeprefix(b" ")


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines without their ends, however long; aiohttp's own are bounded lower than a log tail."""
    rest = b""
    async for block in answer.content.iter_any():
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_EVENT_BYTES:
            raise BadAnswerError(answer.status, f"an event is longer than {MAX_EVENT_BYTES} bytes")


def _read_event(data: bytes) -> ReleaseEvent:
    try:
        return ReleaseEvent.model_validate_json(data)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"]) or "the event"
        raise BadAnswerError(200, f"{where}: {first['msg']}", excerpt(data)) from exc
