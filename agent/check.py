"""Did the new version come up? Asked of the service itself, while its process must stay the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import aiohttp

from agent.errors import CheckFailedError
from agent.observation import Observation, ProcessMark
from shared.clock import Clock

Alive = Callable[[], Awaitable[Observation]]
_BODY_BYTES: Final = 64 * 1024
_SHOWN_CHARS: Final = 200


class HealthCheck(Protocol):
    """Waits until a service is up."""

    @property
    def last_answer(self) -> str:
        """What was seen last, for people; "" before anything was."""
        ...

    async def wait(
        self, *, expected_version: str, alive: Alive, mark: ProcessMark, deadline_s: float | None = None
    ) -> None:
        """Return when the service is up and still the process `mark`.

        Raises CheckFailedError at once when that process is gone or another has taken its place (one that
        died and was restarted meanwhile is not healthy), and after `deadline_s`. Without `deadline_s` the
        deadline is the caller's asyncio.timeout: its TimeoutError passes, and `last_answer` says what to
        tell. Safe to cancel.
        """
        ...


class NoCheck:
    """Asks nothing; the process must merely stay the same for `settle_s`."""

    def __init__(self, *, clock: Clock, settle_s: float = 1.0, interval_s: float = 0.2) -> None:
        self._clock, self._settle_s, self._interval_s = clock, settle_s, interval_s
        self.last_answer = ""

    async def wait(
        self, *, expected_version: str, alive: Alive, mark: ProcessMark, deadline_s: float | None = None
    ) -> None:
        """See HealthCheck. `expected_version` is not looked at."""
        async with _deadline(deadline_s, self):
            settled_at = self._clock.monotonic() + self._settle_s
            while True:
                seen = await _same_process(alive, mark, self)
                self.last_answer = seen.detail
                left = settled_at - self._clock.monotonic()
                if left <= 0:
                    return
                await self._clock.sleep(min(left, self._interval_s))


class HttpCheck:
    """Asks a URL of the host's configuration until the answer is right. No redirects, no proxy."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        interval_s: float = 0.2,
        timeout_s: float = 2.0,
        expect_status: range = range(200, 400),
        expect_body_contains: str = "",
    ) -> None:
        """`timeout_s` bounds one request; "{version}" in `expect_body_contains` is the expected version."""
        self._url, self._clock = url, clock
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._status, self._body = expect_status, expect_body_contains
        self.last_answer = ""

    async def wait(
        self, *, expected_version: str, alive: Alive, mark: ProcessMark, deadline_s: float | None = None
    ) -> None:
        """See HealthCheck."""
        wanted = self._body.replace("{version}", expected_version)
        self.last_answer = ""
        async with _deadline(deadline_s, self), self._session() as session:
            while True:
                await _same_process(alive, mark, self)
                if await self._ask(session, wanted):
                    await _same_process(
                        alive, mark, self
                    )  # the answer may have been the last word of the old one
                    return
                await self._clock.sleep(self._interval_s)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trust_env=False,
        )

    async def _ask(self, session: aiohttp.ClientSession, wanted: str) -> bool:
        try:
            async with session.get(self._url, allow_redirects=False) as response:
                status, body = response.status, await _read_some(response)
        except TimeoutError:
            self.last_answer = f"none within {self._timeout_s:g} s"
            return False
        except aiohttp.ClientError as exc:
            self.last_answer = f"none: {_escape(str(exc) or type(exc).__name__)}"
            return False
        self.last_answer = f"{status} {_escape(body)}".rstrip()
        return status in self._status and wanted in body


async def _read_some(response: aiohttp.ClientResponse) -> str:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _BODY_BYTES:
            break
    return body[:_BODY_BYTES].decode("utf-8", "replace")


async def _same_process(alive: Alive, mark: ProcessMark, check: HealthCheck) -> Observation:
    seen = await alive()
    if seen.mark is None:
        raise CheckFailedError(f"its process is gone: {seen.detail}", check.last_answer)
    if seen.mark != mark:
        raise CheckFailedError(f"its process was replaced by another one: {seen.detail}", check.last_answer)
    return seen


@asynccontextmanager
async def _deadline(deadline_s: float | None, check: HealthCheck) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError as exc:
        if deadline_s is None:
            raise
        raise CheckFailedError(f"it was not up after {deadline_s:g} s", check.last_answer) from exc


def _escape(text: str) -> str:
    shown = text[:_SHOWN_CHARS]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
