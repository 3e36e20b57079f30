"""Did the new version come up? Asked of the service itself, while its process must stay the same."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import aiohttp

from agent.errors import CheckFailedError
from agent.observation import Observation, ProcessMark
from agent.tool import MINIMAL_PATH, run_tool
from releasehand.shown import escape_controls
from shared.clock import Clock

Alive = Callable[[], Awaitable[Observation]]
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 0.5
_BODY_BYTES: Final = 64 * 1024
_SHOWN_CHARS: Final = 200
_OK: Final = range(200, 300)


class HealthCheck(Protocol):
    """Waits until a service is up."""

    @property
    def last_answer(self) -> str:
        """What was seen last, for people; "" before anything was."""
        ...

    async def wait(self, *, expected_version: str, alive: Alive, mark: ProcessMark | None) -> None:
        """Return when the service is up and still the process `mark`.

        Raises CheckFailedError at once when that process is gone or another has taken its place: one that
        died and was restarted meanwhile is not healthy. Without a mark no process can be told from another,
        and the answers alone count. The deadline is the caller's, who finds in `last_answer` what to tell.
        Safe to cancel.
        """
        ...


class Probe(Protocol):
    """One question to the service."""

    async def ask(self, version: str) -> tuple[bool, str]:
        """Whether `version` is up, and the answer for people. Bounded in time. Safe to cancel. Never raises
        for what the service does."""
        ...


class ServiceCheck:
    """The process stays the same for `settle_s`, then the probe's answer is right, and it is still the
    same. A HealthCheck."""

    def __init__(self, probe: Probe | None, *, clock: Clock, settle_s: float = 0.0) -> None:
        """Without a probe the process must merely settle."""
        self._probe, self._clock, self._settle_s = probe, clock, settle_s
        self.last_answer = ""

    async def wait(self, *, expected_version: str, alive: Alive, mark: ProcessMark | None) -> None:
        """See HealthCheck. The probe asks at once, then after ever longer pauses."""
        self.last_answer = ""
        await self._settle(alive, mark)
        if self._probe is None:
            return
        for pause_s in _pauses():
            await self._look(alive, mark)
            good, self.last_answer = await self._probe.ask(expected_version)
            if good:
                await self._look(alive, mark)  # the answer may have been the last word of the old one
                return
            await self._clock.sleep(pause_s)

    async def _settle(self, alive: Alive, mark: ProcessMark | None) -> None:
        settled_at = self._clock.monotonic() + self._settle_s
        for pause_s in _pauses():
            detail = await self._look(alive, mark)
            if self._probe is None:
                self.last_answer = detail
            if (left_s := settled_at - self._clock.monotonic()) <= 0:
                return
            await self._clock.sleep(min(left_s, pause_s))

    async def _look(self, alive: Alive, mark: ProcessMark | None) -> str:
        if mark is None:
            return ""
        seen = await alive()
        if seen.mark is None:
            raise CheckFailedError(f"its process is gone: {seen.detail}", self.last_answer)
        if seen.mark != mark:
            raise CheckFailedError(
                f"its process was replaced by another one: {seen.detail}", self.last_answer
            )
        return seen.detail


class HttpProbe:
    """A URL of the host's configuration must give the right answer. No redirects, no proxy."""

    def __init__(
        self, url: str, *, timeout_s: float = 2.0, expect_status: range = _OK, expect_body_contains: str = ""
    ) -> None:
        """`timeout_s` bounds one request; "{version}" in `expect_body_contains` is the expected version."""
        self._url, self._timeout_s = url, timeout_s
        self._status, self._body = expect_status, expect_body_contains

    async def ask(self, version: str) -> tuple[bool, str]:
        """See Probe."""
        try:
            async with self._session() as session, session.get(self._url, allow_redirects=False) as response:
                status, body = response.status, await _read_some(response)
        except TimeoutError:
            return False, f"none within {self._timeout_s:g} s"
        except aiohttp.ClientSSLError as exc:  # an errno of OpenSSL's is no errno of the system's
            return False, f"no connection: {_escape(str(exc))}"
        except aiohttp.ClientConnectorError as exc:  # its own words speak of TLS where there is none
            known = exc.errno is not None and exc.errno in errno.errorcode
            why = os.strerror(exc.errno or 0) if known else str(exc.os_error)
            return False, f"no connection: {_escape(why)}"
        except aiohttp.ClientError as exc:
            return False, f"none: {_escape(str(exc) or type(exc).__name__)}"
        good = status in self._status and self._body.replace("{version}", version) in body
        return good, f"{status} {_escape(body)}".rstrip()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trust_env=False,
        )


class TcpProbe:
    """Something must accept a connection; what it says is not looked at."""

    def __init__(self, host: str, port: int, *, timeout_s: float = 2.0) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s

    async def ask(self, version: str) -> tuple[bool, str]:
        """See Probe. `version` is not looked at."""
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._timeout_s):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except TimeoutError:
            return False, f"no connection to {where} within {self._timeout_s:g} s"
        except OSError as exc:
            return False, f"no connection to {where}: {exc.strerror or exc}"
        writer.transport.abort()
        return True, f"{where} accepts connections"


class CommandProbe:
    """A command of the host's configuration must end with 0. It runs in the active release."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout_s: float = 10.0
    ) -> None:
        """`timeout_s` bounds one run; it finds the expected version in RELEASEHAND_VERSION."""
        self._argv, self._cwd, self._timeout_s = tuple(argv), cwd, timeout_s
        self._environment = {"PATH": MINIMAL_PATH, **environment}

    async def ask(self, version: str) -> tuple[bool, str]:
        """See Probe."""
        environment = self._environment | {"RELEASEHAND_VERSION": version}
        try:
            async with asyncio.timeout(self._timeout_s):
                ran = await run_tool(self._argv, environment=environment, cwd=self._cwd)
        except TimeoutError:
            return False, f"{self._argv[0]} did not end within {self._timeout_s:g} s"
        except OSError as exc:
            return False, f"{self._argv[0]} does not start: {exc.strerror or exc}"
        return ran.code == 0, f"{self._argv[0]} ended with {ran.code}: {_escape(ran.output)}"


def _pauses() -> Iterator[float]:
    """Short at first: a service that is up at once must not be waited for."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _read_some(response: aiohttp.ClientResponse) -> str:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _BODY_BYTES:
            break
    return body[:_BODY_BYTES].decode("utf-8", "replace")


def _escape(text: str) -> str:
    return escape_controls(text[:_SHOWN_CHARS])
