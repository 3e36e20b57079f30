"""The small files beside a package: URL.minisig and URL.sha256, fetched by the same rules as the package."""

import asyncio
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from agent.download.origin import check_url, open_package
from agent.download.policy import DownloadPolicy
from agent.errors import DownloadTooLargeError, DownloadTooSlowError
from shared.urls import redact_url

MAX_SIDECAR_BYTES: Final = 8 * 1024
SIDECAR_TIMEOUT_S: Final = 30.0


def sidecar_url(url: str, suffix: str) -> str:
    """`url` with `suffix` after its path. The query stays, byte for byte: an access token that is good for
    a folder is good for the sidecar too. A query that signs one object is not, and the origin will say so."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path + suffix, parts.query, ""))


async def fetch_sidecar(
    session: aiohttp.ClientSession,
    url: str,
    suffix: str,
    policy: DownloadPolicy,
    *,
    timeout_s: float = SIDECAR_TIMEOUT_S,
) -> bytes:
    """Return the whole file beside the package at `url`, at most MAX_SIDECAR_BYTES, in memory.

    Raises UrlRefusedError or a DownloadError: OriginRefusedError when there is no such file,
    DownloadTooLargeError when it is too large to be one. Safe to cancel and to repeat."""
    check_url(url, policy)
    target = sidecar_url(url, suffix)
    shown = redact_url(target)
    content = bytearray()
    try:
        async with (
            asyncio.timeout(timeout_s),
            open_package(session, target, policy) as response,
        ):
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > MAX_SIDECAR_BYTES:
                    raise DownloadTooLargeError(shown, f"it is larger than {MAX_SIDECAR_BYTES} bytes")
    except TimeoutError:
        raise DownloadTooSlowError(shown, f"it did not come within {timeout_s:g} s") from None
    return bytes(content)
