"""The other end: which URLs may be asked, how they are asked, and what its failures are called here."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from agent.download.address import (
    LOCALHOST,
    AddressRefusedError,
    CheckedResolver,
    Resolve,
    describe_refusal,
    parse_address,
    resolve_with_system,
)
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
_WHOLE: Final = frozenset({200})
_READ_BUFFER_BYTES: Final = 128 * 1024  # aiohttp stops reading from the socket at twice this
_LEAST_WINDOW_BYTES: Final = 64 * 1024
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "releasehand-agent"}
_HOW_TO_ALLOW: Final = "packages.allow_private and packages.allowed_networks of this host allow it"


def check_url(url: str, policy: DownloadPolicy) -> URL:
    """Return `url` as it will be asked for, byte for byte (a presigned query must not be re-quoted).

    Raises UrlRefusedError: not https, user information in it, a host or an address that the policy does not
    take, not a URL. What a name resolves to is asked when the connection is made (CheckedResolver).
    """
    shown = redact_url(url)
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UrlRefusedError(shown, "it holds characters that a URL must escape")
    try:
        parsed = URL(url, encoded=True).with_fragment(None)
        host, port, authority = (parsed.host or "").lower(), parsed.port, parsed.raw_authority
        address = parse_address(host)
    except ValueError:
        raise UrlRefusedError(shown, "it is not a URL") from None  # the cause would quote it with its query
    if parsed.scheme != "https":
        raise UrlRefusedError(shown, "only https is accepted")
    if not host:
        raise UrlRefusedError(shown, "it names no host")
    if "@" in authority:
        raise UrlRefusedError(shown, "it holds a user name or password")
    if not _is_allowed(host.rstrip("."), port or 443, policy):
        raise UrlRefusedError(shown, f"the host {host} is not among allowed_hosts")
    if policy.proxy and (host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")):
        address = LOCALHOST  # a name that the proxy would resolve to itself
    if address is not None:
        kind = describe_refusal(
            address, allow_private=policy.allow_private, allowed_networks=policy.allowed_networks
        )
        if kind is not None:
            raise _address_refused(shown, AddressRefusedError(str(address), kind))
    return parsed


def _is_allowed(host: str, port: int, policy: DownloadPolicy) -> bool:
    if not policy.allowed_hosts:
        return True
    for one in policy.allowed_hosts:
        name = one.lower()
        if host.endswith(name) if name.startswith(".") else name in {host, f"{host}:{port}"}:
            return True
    return False


async def open_session(
    policy: DownloadPolicy, resolve: Resolve = resolve_with_system
) -> aiohttp.ClientSession:
    """Return a session that takes nothing from the environment: no proxy, no netrc, no cookies.

    Raises OSError for a bad extra_ca_file.
    """
    context = await asyncio.to_thread(_trust, policy.extra_ca_file)  # all the system's authorities are read
    # Behind a proxy its name is all that is resolved here, and the host's owner wrote that name.
    resolver = CheckedResolver(
        resolve,
        allow_private=policy.allow_private,
        allowed_networks=policy.allowed_networks,
        check=not policy.proxy,
    )
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=context,
            limit=0,
            force_close=True,  # a kept connection may have been closed by the origin meanwhile
            resolver=resolver,
            use_dns_cache=False,
            socket_factory=_socket_factory(policy.limit_bytes_s),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=aiohttp.ClientTimeout(
            total=None, connect=policy.connect_timeout_s, sock_read=policy.read_timeout_s
        ),
        trust_env=False,
        proxy=policy.proxy or None,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
    )


def _trust(extra_ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if extra_ca_file is not None:
        context.load_verify_locations(cafile=extra_ca_file)
    return context


def _socket_factory(limit_bytes_s: int) -> aiohttp.SocketFactoryType | None:
    """Under a limit the kernel must not take in advance what is not to come yet: by itself its buffer grows
    to megabytes, which at a low rate is minutes of traffic."""
    if not limit_bytes_s:
        return None
    window_bytes = max(_LEAST_WINDOW_BYTES, limit_bytes_s // 4)

    def make_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        return made

    return make_socket


@asynccontextmanager
async def open_package(
    session: aiohttp.ClientSession,
    url: str,
    policy: DownloadPolicy,
    *,
    headers: Mapping[str, str] | None = None,
    accept: Set[int] = _WHOLE,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask for `url`, following at most three redirects, each checked like the first; yield the answer, whose
    status is one of `accept`.

    Network errors inside the block are translated too. Raises UrlRefusedError or a DownloadError.
    """
    target = check_url(url, policy)
    shown = redact_url(url)
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            async with _ask(session, target, policy, headers) as response:
                if response.status not in _REDIRECTS:
                    _check_status(response.status, shown, accept)
                    yield response
                    return
                target = _next_target(target, response.headers.get("Location", ""), policy)
                shown = redact_url(str(target))
    except AddressRefusedError as exc:
        raise _address_refused(shown, exc) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        # Not `from exc`: aiohttp's errors quote the URL with its query, and a log would show the chain.
        raise _translate(exc, shown, policy) from None
    raise UrlRefusedError(redact_url(url), f"it was redirected more than {_MAX_REDIRECTS} times")


@asynccontextmanager
async def _ask(
    session: aiohttp.ClientSession, target: URL, policy: DownloadPolicy, headers: Mapping[str, str] | None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask once. aiohttp's own bounds are for silence alone: interim answers (1xx) and headers byte by byte
    could otherwise go on for ever."""
    most_s = policy.connect_timeout_s + policy.read_timeout_s
    limit = asyncio.timeout(most_s)
    try:
        async with limit:
            response = await session.get(target, allow_redirects=False, headers=headers)
    except TimeoutError:
        if not limit.expired():
            raise
        raise DownloadTooSlowError(
            redact_url(str(target)), f"its headers did not come within {most_s:g} s"
        ) from None
    async with response:
        yield response


def _next_target(target: URL, location: str, policy: DownloadPolicy) -> URL:
    try:
        joined = str(target.join(URL(location, encoded=True)))
    except ValueError:
        raise UrlRefusedError(redact_url(location), "the redirect to it is not a URL") from None
    if not location:
        raise UrlRefusedError(redact_url(str(target)), "it was redirected to nowhere")
    return check_url(joined, policy)


def _address_refused(shown: str, exc: AddressRefusedError) -> UrlRefusedError:
    hint = f" ({_HOW_TO_ALLOW})" if exc.kind in {"private", "a loopback address"} else ""
    return UrlRefusedError(shown, f"{exc}{hint}")


def _check_status(status: int, shown: str, accept: Set[int]) -> None:
    if status in accept:
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
        case aiohttp.ClientHttpProxyError(status=status):
            return DownloadFailedError(shown, f"the proxy {policy.proxy} answered {status}")
        case aiohttp.ClientProxyConnectionError():
            return DownloadFailedError(shown, f"the proxy {policy.proxy} cannot be reached")
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
        case OSError(errno=int(number)) if number in errno.errorcode:
            return DownloadFailedError(shown, os.strerror(number))  # Python's own words name its functions
        case OSError(strerror=str(why)):
            return DownloadFailedError(shown, why)
        case _:
            return DownloadFailedError(shown, f"the connection failed ({type(exc).__name__})")
