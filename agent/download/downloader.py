"""One download from first byte to last: checked, bounded, hashed, and gone again if anything goes wrong."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp

from agent.download.origin import check_url, open_package, open_session
from agent.download.partial import Download, PartialFile, clear_partials, free_bytes
from agent.download.policy import DownloadPolicy
from agent.download.sidecar import fetch_sidecar
from agent.errors import DownloadTooLargeError, DownloadTooSlowError, NoSpaceError, disk_errors
from shared.clock import Clock
from shared.urls import redact_url

_BLOCK_BYTES: Final = 1024 * 1024
_SPACE_EVERY_BYTES: Final = (
    64 * _BLOCK_BYTES
)  # how often free space is looked at again when no length was told

Progress = Callable[[int, int | None], None]
"""Gets bytes done and, if the origin told it, bytes in all. Called often: be quick, do not raise."""


class Downloader:
    """Fetches packages into `packages_dir`, which belongs to this agent alone. Any number at a time."""

    def __init__(self, packages_dir: Path, *, policy: DownloadPolicy, clock: Clock) -> None:
        self._directory, self._policy, self._clock = packages_dir, policy, clock
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, url: str, *, progress: Progress) -> Download:
        """Download `url`; the caller closes what it gets. The whole deadline is the caller's: cancelling is
        safe, closes the connection and leaves no file behind, as does every error.

        Raises UrlRefusedError, DownloadError (its subclasses), NoSpaceError, HostError. Whether these are
        the right bytes is not asked here (agent.verify).
        """
        check_url(url, self._policy)
        session = await self._ready()
        async with open_package(session, url, self._policy) as response:
            shown, total = redact_url(url), response.content_length
            self._check_size(shown, total or 0)
            self._check_space(total)
            partial = PartialFile(self._directory, hashlib.sha256(shown.encode()).hexdigest()[:16])
            try:
                await self._receive(response, partial, shown, progress)
                return partial.complete()
            except BaseException:
                await partial.discard()
                raise

    async def clear(self) -> None:
        """Remove what an agent that died left here; call it before the first `fetch`. A resumed attempt may
        end without another download, which would have done it. Raises NoSpaceError, HostError."""
        await asyncio.to_thread(clear_partials, self._directory)

    async def fetch_sidecar(self, url: str, suffix: str) -> bytes:
        """The small file beside the package at `url`; see agent.download.sidecar."""
        return await fetch_sidecar(await self._ready(), url, suffix, self._policy)

    async def close(self) -> None:
        """Close all connections. Downloads must have ended; finished ones stay good."""
        if self._session is not None:
            await self._session.close()

    async def _ready(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                await self.clear()
                with disk_errors(self._policy.extra_ca_file or self._directory):
                    self._session = open_session(self._policy)
            return self._session

    async def _receive(
        self, response: aiohttp.ClientResponse, partial: PartialFile, shown: str, progress: Progress
    ) -> None:
        total = response.content_length
        pace = _Pace(self._policy, self._clock, shown)
        block, filled, done = memoryview(bytearray(_BLOCK_BYTES)), 0, 0
        progress(0, total)
        async for chunk in response.content.iter_any():
            done += len(chunk)
            self._check_size(shown, done)
            pace.check(done)
            rest = memoryview(chunk)
            while rest:
                taken = min(len(rest), _BLOCK_BYTES - filled)
                block[filled : filled + taken] = rest[:taken]
                filled, rest = filled + taken, rest[taken:]
                if filled == _BLOCK_BYTES:
                    await partial.append(block)
                    filled = 0
                    if total is None and partial.size_bytes % _SPACE_EVERY_BYTES == 0:
                        self._check_space(None)
            progress(done, total)
        await partial.append(block[:filled])

    def _check_size(self, shown: str, size: int) -> None:
        most = self._policy.max_bytes
        if size > most:
            raise DownloadTooLargeError(shown, f"it is larger than the {most} bytes this host accepts")

    def _check_space(self, total: int | None) -> None:
        needed = (total or _BLOCK_BYTES) + self._policy.reserve_bytes
        free = free_bytes(self._directory)
        if free < needed:
            raise NoSpaceError(self._directory, needed_bytes=needed, free_bytes=free)


class _Pace:
    """Notices an origin that trickles. One that sends nothing at all is the read timeout's."""

    def __init__(self, policy: DownloadPolicy, clock: Clock, shown: str) -> None:
        self._policy, self._clock, self._shown = policy, clock, shown
        self._since, self._done = clock.monotonic(), 0

    def check(self, done: int) -> None:
        now = self._clock.monotonic()
        passed = now - self._since
        if passed < self._policy.rate_window_s:
            return
        rate = (done - self._done) / passed
        if rate < self._policy.min_rate_bytes_s:
            least = self._policy.min_rate_bytes_s
            raise DownloadTooSlowError(self._shown, f"{rate:.0f} bytes/s came, {least} is the least")
        self._since, self._done = now, done
