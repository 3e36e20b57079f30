"""Packages for this host: from the cache, from a download that is under way already, or from their origin."""

import asyncio
import hashlib
import re
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from agent.download.address import Resolve, resolve_with_system
from agent.download.cache import PackageCache
from agent.download.flight import Flight, Progress
from agent.download.origin import check_url, open_session
from agent.download.pace import Throttle
from agent.download.package import Download
from agent.download.partial import SUFFIX, PartialFile, open_partial
from agent.download.policy import DownloadPolicy
from agent.download.record import PartialRecord
from agent.download.room import Room
from agent.download.sidecar import fetch_sidecar
from agent.download.transfer import Transfer
from agent.errors import HostError, NoSpaceError, disk_errors
from agent.finish import finish
from releasehand.model.codes import TRANSIENT
from shared.clock import Clock
from shared.errors import AttemptError
from shared.logs import get_log
from shared.urls import redact_url

_log = get_log(__name__)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Downloader:
    """Fetches packages into `packages_dir`, which belongs to this agent alone. Any number at a time."""

    def __init__(
        self,
        packages_dir: Path,
        *,
        policy: DownloadPolicy,
        clock: Clock,
        resolve: Resolve = resolve_with_system,
    ) -> None:
        self._directory, self._policy, self._clock, self._resolve = packages_dir, policy, clock, resolve
        self._cache = PackageCache(packages_dir, budget_bytes=policy.cache_bytes, clock=clock)
        self._room = Room(packages_dir, reserve_bytes=policy.reserve_bytes, make_room=self._cache.make_room)
        self._throttle = Throttle(policy.limit_bytes_s, clock)
        self._flights: dict[tuple[str, str], Flight] = {}
        self._suspended = False
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, url: str, *, progress: Progress, expected_sha256: str = "") -> Download:
        """Return the package at `url`; the caller closes what it gets. The whole deadline is the caller's.

        With `expected_sha256` a package of the cache will do, and a partial file of an earlier fetch is gone
        on with whatever the origin tells about it. Whether these are the right bytes is not asked here
        (agent.verify): with another digest than expected the package comes all the same, and is not kept.

        Safe to cancel: the connection is closed, and what came is removed unless others wait for it too or
        `suspend` was called. After a transient error the bytes stay for the next fetch if they can be used.
        Raises UrlRefusedError, DownloadError (its subclasses), NoSpaceError, HostError."""
        expected = expected_sha256.lower()
        if expected and _SHA256.fullmatch(expected) is None:
            raise ValueError("expected_sha256 is no SHA-256 in hex")
        asked = check_url(url, self._policy)
        bare = str(asked.with_query(None))
        # Without a digest the query may be what names the package; with one it is but a credential.
        key = (bare if expected else str(asked), expected)
        while (flight := self._flights.get(key)) is not None and flight.closing:
            await flight.land()
        if flight is None:
            flight = self._flights[key] = Flight(
                partial(self._obtain, url, bare, expected, bool(asked.raw_query_string)),
                lend=self._cache.lend,
                landed=partial(self._flights.__delitem__, key),
            )
        return await flight.ride(progress)

    async def clear(self) -> None:
        """Remove what an agent that died left here and no fetch can go on with; call it before the first
        `fetch`. Reads the certificate authorities too, so that the first fetch need not wait for it (0.05 s).
        Raises NoSpaceError, HostError."""
        await asyncio.to_thread(self._cache.tidy)
        with suppress(HostError, NoSpaceError):  # the next fetch tries again, and says what is wrong
            await self._ready(tidied=True)

    def suspend(self) -> None:
        """The agent is about to stop: downloads that are cancelled from now on leave what came to the next
        start."""
        self._suspended = True

    async def fetch_sidecar(self, url: str, suffix: str) -> bytes:
        """The small file beside the package at `url`; see agent.download.sidecar."""
        return await fetch_sidecar(await self._ready(), url, suffix, self._policy)

    async def close(self) -> None:
        """Close all connections. Downloads must have ended; finished ones stay good."""
        if self._session is not None:
            await self._session.close()

    async def _ready(self, *, tidied: bool = False) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                if not tidied:
                    await asyncio.to_thread(self._cache.tidy)
                with disk_errors(self._policy.extra_ca_file or self._directory):
                    self._session = await open_session(self._policy, self._resolve)
            return self._session

    async def _obtain(
        self, url: str, bare: str, expected: str, queried: bool, progress: Progress
    ) -> Download:
        session = await self._ready()
        if expected and (kept := await self._cache.find(expected)) is not None:
            _log.info("package was kept here", sha256=expected, bytes=kept.size_bytes)
            progress(kept.size_bytes, kept.size_bytes)
            return kept
        name = hashlib.sha256(f"{bare}\n{expected}".encode()).hexdigest()[:32]
        lasting = bool(expected) or not queried
        if not lasting:
            name += f"-{secrets.token_hex(8)}"
        path = self._directory / f"{name}{SUFFIX}"
        self._cache.claim_partial(path)
        try:
            record = PartialRecord(url=bare, sha256=expected)
            file = await finish(asyncio.to_thread(open_partial, path, record))
            return await self._fill(url, file, expected, lasting, session, progress)
        finally:
            self._cache.release_partial(path)

    async def _fill(
        self,
        url: str,
        file: PartialFile,
        expected: str,
        lasting: bool,
        session: aiohttp.ClientSession,
        progress: Progress,
    ) -> Download:
        transfer = Transfer(
            url,
            file,
            session=session,
            policy=self._policy,
            clock=self._clock,
            throttle=self._throttle,
            room=self._room,
            progress=progress,
        )
        try:
            if file.size_bytes:
                _log.info("download goes on", url=redact_url(url), bytes=file.size_bytes)
                await file.rehash()
            await transfer.run()
            if expected and file.sha256 != expected and transfer.resumed:
                await transfer.start_over()  # the pieces may not have been of one package
                await transfer.run()
        except BaseException as exc:
            if lasting and self._is_worth_keeping(exc, file):
                await file.keep()
            else:
                await file.discard()
            raise
        return await self._cache.store(file, keep=not expected or file.sha256 == expected)

    def _is_worth_keeping(self, exc: BaseException, file: PartialFile) -> bool:
        if not file.size_bytes or not file.record.resumable:
            return False
        match exc:
            case NoSpaceError():
                return False  # it would keep away the room that is missing
            case AttemptError(code=code):
                return code in TRANSIENT
            case asyncio.CancelledError():
                return self._suspended
            case _:
                return False
