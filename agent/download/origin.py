"""The other end: which URLs may be asked, how they are asked, and what its failures are called here."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from agent.download.policy import DownloadPolicy
from agent.errors import (
    DownloadFailedError,
    DownloadTooSlowError,
    OriginRefusedError,
    OriginServerError,
    UntrustedCertificateError,
    UrlRefusedError,
)
from shared.errors import AttemptError
from shared.urls import redact_url

_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 429})
_READ_BUFFER_BYTES: Final = 128 * 1024  # aiohttp stops reading from the socket at twice this
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "releasehand-agent"}


def check_url(url: str, policy: DownloadPolicy) -> URL:
    """Return `url` as it will be asked for, byte for byte (a presigned query must not be re-quoted).

    Raises UrlRefusedError: not https, user information in it, a host that the policy does not name, not a
    URL.
    """
    shown = redact_url(url)
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UrlRefusedError(shown, "it holds characters that a URL must escape")
    try:
        parsed = URL(url, encoded=True).with_fragment(None)
        host, port, authority = (parsed.host or "").lower(), parsed.port, parsed.raw_authority
    except ValueError:
        raise UrlRefusedError(shown, "it is not a URL") from None  # the cause would quote it with its query
    if parsed.scheme != "https":
        raise UrlRefusedError(shown, "only https is accepted")
    if not host:
        raise UrlRefusedError(shown, "it names no host")
    if "@" in authority:
        raise UrlRefusedError(shown, "it holds a user name or password")
    if (
        policy.allowed_hosts
        and host not in policy.allowed_hosts
        and f"{host}:{port}" not in policy.allowed_hosts
    ):
        raise UrlRefusedError(shown, f"the host {host} is not among allowed_hosts")
    return parsed


def open_session(policy: DownloadPolicy) -> aiohttp.ClientSession:
    """Return a session that takes nothing from the environment: no proxy, no netrc, no cookies.

    Must be called in the event loop, reads certificate files, raises OSError for a bad extra_ca_file.
    """
    context = ssl.create_default_context()
    if policy.extra_ca_file is not None:
        context.load_verify_locations(cafile=policy.extra_ca_file)
    return aiohttp.ClientSession(
        # One connection for one download: a kept one may have been closed by the origin meanwhile.
        connector=aiohttp.TCPConnector(ssl=context, limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=aiohttp.ClientTimeout(
            total=None, connect=policy.connect_timeout_s, sock_read=policy.read_timeout_s
        ),
        trust_env=False,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
    )


@asynccontextmanager
async def open_package(
    session: aiohttp.ClientSession, url: str, policy: DownloadPolicy
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask for `url`, following at most three redirects, each checked like the first; yield the 200 answer.

    Network errors inside the block are translated too. Raises UrlRefusedError or a DownloadError.
    """
    target = check_url(url, policy)
    shown = redact_url(url)
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            async with session.get(target, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    _check_status(response.status, shown)
                    yield response
                    return
                target = _next_target(target, response.headers.get("Location", ""), policy)
                shown = redact_url(str(target))
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        # Not `from exc`: aiohttp's errors quote the URL with its query, and a log would show the chain.
        raise _translate(exc, shown, policy) from None
    raise UrlRefusedError(redact_url(url), f"it was redirected more than {_MAX_REDIRECTS} times")


def _next_target(target: URL, location: str, policy: DownloadPolicy) -> URL:
    try:
        joined = str(target.join(URL(location, encoded=True)))
    except ValueError:
        raise UrlRefusedError(redact_url(location), "the redirect to it is not a URL") from None
    if not location:
        raise UrlRefusedError(redact_url(str(target)), "it was redirected to nowhere")
    return check_url(joined, policy)


def _check_status(status: int, shown: str) -> None:
    if status == 200:
        return
    reason = f"the origin answered {status}"
    if status >= 500 or status in _TRANSIENT:
        raise OriginServerError(shown, reason)
    raise OriginRefusedError(shown, reason)


def _translate(exc: Exception, shown: str, policy: DownloadPolicy) -> AttemptError:
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(exc.certificate_error, "verify_message", "") or "it does not verify"
            return UntrustedCertificateError(shown, f"the origin's certificate is not trusted: {why}")
        case aiohttp.ConnectionTimeoutError():
            return DownloadFailedError(shown, f"no connection within {policy.connect_timeout_s:g} s")
        case aiohttp.SocketTimeoutError():
            return DownloadTooSlowError(shown, f"not a single byte came for {policy.read_timeout_s:g} s")
        case aiohttp.ClientConnectorDNSError():
            return DownloadFailedError(shown, "the host's name does not resolve")
        case aiohttp.ClientConnectorSSLError():
            return DownloadFailedError(shown, "the TLS handshake failed")
        case aiohttp.ClientPayloadError():
            return DownloadFailedError(shown, "the origin ended the body before its stated length")
        case aiohttp.ServerDisconnectedError():
            return DownloadFailedError(shown, "the origin closed the connection without an answer")
        case aiohttp.ClientResponseError():
            return DownloadFailedError(shown, "the origin's answer is not HTTP")
        case OSError(strerror=str(why)):
            return DownloadFailedError(shown, why)
        case _:
            return DownloadFailedError(shown, f"the connection failed ({type(exc).__name__})")
