"""How the client talks to a controller: one HTTP exchange, repeated where that is safe and may help."""

import asyncio
import math
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import yarl
from pydantic import ValidationError

from .errors import (
    BadAnswerError,
    ConnectionFailedError,
    UnavailableError,
    excerpt,
    parse_json,
    read_refusal,
    reason_of,
)
from .model import Answer, Envelope, Request

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TRIES: Final = 5
FIRST_BACKOFF_S: Final = 0.2
MAX_BACKOFF_S: Final = 5.0
MAX_RETRY_AFTER_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
MAX_LONG_POLL_S: Final = 60.0
PATIENCE_S: Final = 300.0
"""How long a wait outlives a controller that does not answer, for example while it is upgraded."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024

AnswerT = TypeVar("AnswerT", bound=Answer)
Trouble = ConnectionFailedError | UnavailableError


class Clock(Protocol):
    """What the client needs of time."""

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class LoopClock:
    """The time of the running event loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, over.set_result, None)
        try:
            await over
        finally:
            timer.cancel()


class Connection:
    """What all calls share."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        ca_file: str | Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises ValueError for a URL or token of no use, OSError for a CA file that cannot be read."""
        self._base = _check_base_url(base_url)
        self._headers = {"Authorization": f"Bearer {_check_token(token)}", "Accept": "application/json"}
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._clock: Clock = clock or LoopClock()
        self._dice = random.SystemRandom()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(trust_env=False, headers=self._headers)
        return self

    async def __aexit__(self, *failure: object) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    async def _call(
        self,
        method: str,
        path: str,
        model: type[AnswerT],
        *,
        query: Mapping[str, str] | None = None,
        body: Request | None = None,
        key: str = "",
        wait_s: float = 0,
        also: int = 200,  # a further status that brings data
    ) -> AnswerT:
        wait_s = math.ceil(min(wait_s, MAX_LONG_POLL_S))
        query = {**(query or {}), **({"wait": f"{wait_s}s"} if wait_s > 0 else {})}
        url = yarl.URL(self._base + path, encoded=True).with_query(query or None)
        sent = body.model_dump_json().encode() if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        headers |= {"Idempotency-Key": key} if key else {}
        limit_s = self._timeout_s + wait_s
        give_up_at = self._clock.monotonic() + limit_s
        for tried in range(1, MAX_TRIES + 1):
            after_s = 0.0
            try:
                status, after_s, content = await self._exchange(method, url, headers, sent, limit_s)
                if status == 200 or (status == also and _brings_data(content)):
                    return _read(model, status, content)
                raise read_refusal(status, content)
            except (ConnectionFailedError, UnavailableError) as exc:
                backoff_s = self._dice.uniform(0, min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**tried))
                pause_s = after_s + backoff_s
                late = self._clock.monotonic() + pause_s >= give_up_at
                if not exc.retryable or tried == MAX_TRIES or late:
                    raise
            await self._clock.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _exchange(
        self, method: str, url: yarl.URL, headers: Mapping[str, str], content: bytes | None, timeout_s: float
    ) -> tuple[int, float, bytes]:
        """Send once; returns status, seconds of Retry-After and body."""
        bounds = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        async with self._request(method, url, headers, content, bounds) as answer:
            received = await read_bounded(answer)
            return answer.status, _retry_after_s(answer.headers.get("Retry-After", "")), received

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: yarl.URL,
        headers: Mapping[str, str],
        content: bytes | None,
        bounds: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, of which the body is still to be read inside the block.

        Raises ConnectionFailedError, also for what goes wrong while it is read."""
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(...) as client`")
        try:
            async with self._session.request(
                method,
                url,
                data=content,
                headers=headers,
                ssl=self._tls,
                allow_redirects=False,
                timeout=bounds,
            ) as answer:
                yield answer
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as exc:
            untrusted = isinstance(exc, aiohttp.ClientConnectorCertificateError)
            cause = exc.certificate_error if untrusted else exc.os_error
            why = f"TLS failed: {reason_of(cause)}"
            raise ConnectionFailedError(self._base, why, retryable=False) from exc
        except TimeoutError as exc:
            limit_s = bounds.total or bounds.sock_read or 0
            raise ConnectionFailedError(self._base, f"no answer within {limit_s:g} s") from exc
        except aiohttp.ClientConnectorError as exc:
            raise ConnectionFailedError(self._base, reason_of(exc.os_error)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ConnectionFailedError(self._base, str(exc) or type(exc).__name__) from exc


async def read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises BadAnswerError when it is too long."""
    received = bytearray()
    async for block in answer.content.iter_chunked(64 * 1024):
        received += block
        if len(received) > MAX_ANSWER_BYTES:
            raise BadAnswerError(answer.status, f"it is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(received)


def page_query(limit: int, offset: int, **filters: object) -> dict[str, str]:
    """The query of a list; a filter that is None or "" is left out."""
    chosen = {name: str(value) for name, value in filters.items() if value not in {None, ""}}
    return {"limit": str(limit), "offset": str(offset)} | chosen


def _check_base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the controller's address has no user, query or fragment")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"the controller's address is like https://host:port, not {value!r}")
    return value.rstrip("/")


def _check_token(value: str) -> str:
    """The text of the error never shows the token."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a token is printable ASCII without spaces and not empty")
    return value


def segment(value: str) -> str:
    """A name as one path segment; dots alone would be taken for a step in the path."""
    if value in {"", ".", ".."}:
        raise ValueError(f"{value!r} is no name")
    return quote(value, safe="")


def _retry_after_s(value: str) -> float:
    return min(float(value), MAX_RETRY_AFTER_S) if value.isascii() and value.isdigit() else 0.0


def _brings_data(content: bytes) -> bool:
    answer = parse_json(content)
    return isinstance(answer, dict) and isinstance(answer.get("data"), dict)


def _read(model: type[AnswerT], status: int, content: bytes) -> AnswerT:
    try:
        return Envelope[model].model_validate_json(content).data  # type: ignore[valid-type]
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"]) or "the body"
        raise BadAnswerError(status, f"{where}: {first['msg']}", excerpt(content)) from exc
