"""One package from first byte to last: asked for, cut, asked for again from where it was cut."""

import asyncio
import re
from typing import Final

import aiohttp

from agent.download.body import open_body
from agent.download.flight import Progress
from agent.download.origin import open_package
from agent.download.pace import Pace, Throttle
from agent.download.partial import PartialFile
from agent.download.policy import DownloadPolicy
from agent.download.record import PartialRecord
from agent.download.room import Room
from agent.errors import (
    DownloadFailedError,
    DownloadTooLargeError,
    HostError,
    NoSpaceError,
    OriginServerError,
)
from shared.clock import Clock
from shared.logs import get_log
from shared.urls import redact_url

_log = get_log(__name__)

MAX_RESUMES: Final = 100
MAX_FRUITLESS: Final = 5
MAX_FRESH_STARTS: Final = 3
_FIRST_WAIT_S: Final = 0.25  # doubled with each resume that brought nothing
_BLOCK_BYTES: Final = 1024 * 1024
_UNTOLD_BYTES: Final = 64 * _BLOCK_BYTES  # claimed at a time when no length was told
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_USELESS: Final = (DownloadTooLargeError, NoSpaceError, HostError)  # after these nobody goes on with the file
_FIRST: Final = frozenset({200})
_RESUMED: Final = frozenset({200, 206, 416})


class Transfer:
    """Fills `partial` with all of the package at `url`."""

    def __init__(
        self,
        url: str,
        partial: PartialFile,
        *,
        session: aiohttp.ClientSession,
        policy: DownloadPolicy,
        clock: Clock,
        throttle: Throttle,
        room: Room,
        progress: Progress,
    ) -> None:
        self.resumed = False
        """Whether the file was put together from more than one answer."""
        self._url, self._shown, self._partial = url, redact_url(url), partial
        self._session, self._policy, self._clock = session, policy, clock
        self._throttle, self._room, self._progress = throttle, room, progress
        self._pace = Pace(policy, clock, self._shown)
        self._received = 0
        self._fresh_starts = 0
        self._buffer, self._spare = (memoryview(bytearray(_BLOCK_BYTES)) for _ in range(2))
        self._filled = 0
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Return when the file is whole. What came so far stands in the file after every error and cancel.

        An origin that lets go after it had sent something is asked again for the rest, as long as that
        brings anything; one that sent nothing yet is the caller's trouble. Raises UrlRefusedError,
        DownloadError, NoSpaceError, HostError. Safe to cancel; a new Transfer then goes on."""
        resumes = fruitless = 0
        try:
            while True:
                before = self._received
                try:
                    if await self._ask():
                        return
                except (DownloadFailedError, OriginServerError) as exc:
                    given_up = self._fresh_starts > MAX_FRESH_STARTS
                    if given_up or not self._received or not self._partial.record.resumable:
                        raise
                    fruitless = 0 if self._received > before else fruitless + 1
                    resumes += 1
                    if fruitless >= MAX_FRUITLESS or resumes > MAX_RESUMES:
                        raise
                    _log.info(
                        "download was cut", url=self._shown, bytes=self._partial.size_bytes, why=exc.reason
                    )
                if fruitless:
                    await self._clock.sleep(_FIRST_WAIT_S * 2 ** (fruitless - 1))
        finally:
            self._room.release(self)

    async def start_over(self) -> None:
        """Forget what came so far; then run again. Raises DownloadFailedError when that was tried often."""
        self._fresh_starts += 1
        if self._fresh_starts > MAX_FRESH_STARTS:
            raise DownloadFailedError(self._shown, "it changes while it is read, or cannot be resumed")
        self._filled, self.resumed = 0, False
        await self._partial.empty()

    async def _ask(self) -> bool:
        """Ask for what is missing and read the answer; False if it was of no use: ask anew."""
        offset, record = self._partial.size_bytes, self._partial.record
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and record.if_range:
            headers["If-Range"] = record.if_range
        async with open_package(
            self._session, self._url, self._policy, headers=headers, accept=_RESUMED if offset else _FIRST
        ) as response:
            if response.status == 200:
                if offset:
                    await self.start_over()
                total = response.content_length
                described = record.described(response.headers, total)
            elif (total := _resumed_total(response, offset, record)) is not None:
                described = record.model_copy(update={"length_bytes": total})
                self.resumed = True
            else:
                await self.start_over()
                return False
            self._check_size(total or 0)
            self._claim(total)
            if described != self._partial.record or not offset:
                await self._partial.describe(described)
            await self._receive(response, total)
        if total is not None and self._partial.size_bytes != total:
            raise DownloadFailedError(self._shown, "the origin ended the body before its stated length")
        return True

    async def _receive(self, response: aiohttp.ClientResponse, total: int | None) -> None:
        body = open_body(response, silent_s=self._policy.read_timeout_s)
        done = self._partial.size_bytes
        self._progress(done, total)
        try:
            while size := await body.read_into(self._next_view()):
                self._filled += size
                self._received += size
                done += size
                self._check_size(done)
                if total is not None and done > total:
                    raise DownloadTooLargeError(
                        self._shown, f"more came than the {total} bytes it should have"
                    )
                self._pace.check(self._received)
                if self._filled == _BLOCK_BYTES:
                    await self._flush()
                    self._claim_rest(total)
                self._progress(done, total)
                self._pace.excuse(await self._throttle.take(size))
        except BaseException as exc:
            if not isinstance(exc, _USELESS):
                await self._flush()
            raise
        else:
            await self._flush()
        finally:
            await self._settle()

    def _next_view(self) -> memoryview:
        """Where the next bytes go: the rest of the block, or as much of it as the limit lets come at once."""
        most = self._throttle.read_bytes
        return self._buffer[self._filled :] if most < 0 else self._buffer[self._filled :][:most]

    async def _flush(self) -> None:
        """Have the block written while the next one comes; two of them is all that is held."""
        if self._filled:
            block, self._filled = self._buffer[: self._filled], 0
            await self._settle()
            self._buffer, self._spare = self._spare, self._buffer
            self._writing = asyncio.create_task(self._partial.append(block))

    async def _settle(self) -> None:
        """Return when every block is in the file. Nothing of a block is lost to a cancel."""
        if self._writing is not None:
            try:
                await self._writing
            finally:
                self._writing = None

    def _claim(self, total: int | None) -> None:
        missing = _UNTOLD_BYTES if total is None else total - self._partial.size_bytes
        self._room.claim(self, min(missing, self._policy.max_bytes))

    def _claim_rest(self, total: int | None) -> None:
        if total is not None:
            self._room.shrink(self, total - self._partial.size_bytes)
        elif self._partial.size_bytes % _UNTOLD_BYTES == 0:
            self._claim(None)

    def _check_size(self, size: int) -> None:
        most = self._policy.max_bytes
        if size > most:
            raise DownloadTooLargeError(self._shown, f"it is larger than the {most} bytes this host accepts")


def _resumed_total(response: aiohttp.ClientResponse, offset: int, record: PartialRecord) -> int | None:
    """The length of the whole package, if the answer continues the one that was begun; else None."""
    if response.status != 206:
        return None
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        return None
    first, last, total = (int(text) for text in found.groups())
    etag = response.headers.get("ETag", "")
    same = record.length_bytes in {None, total} and (not etag or not record.etag or etag == record.etag)
    return total if same and first == offset and last == total - 1 else None
