"""Which addresses packages may come from: asked of the very address that is connected to.

A name is resolved once for each connection and the answer is judged before it is used, so that a name which
resolves otherwise a moment later (DNS rebinding) gains nothing."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gets a name and a port, returns addresses in text form. Raises OSError."""

LOCALHOST: Final = ipaddress.IPv4Address("127.0.0.1")
_PRIVATE: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_MAPPED: Final = ipaddress.IPv6Network("::/80")  # IPv4-compatible and IPv4-mapped, `::` and `::1` among them
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")


class AddressRefusedError(Exception):
    """No address of the name may be connected to. Never leaves agent.download."""

    def __init__(self, address: str, kind: str) -> None:
        self.address, self.kind = address, kind
        super().__init__(f"its address {address} is {kind}")


def parse_address(host: str) -> Address | None:
    """Return the address that `host` is; None for a name. Raises ValueError for the old number forms
    (`127.1`, `0x7f000001`), which some resolvers take for addresses and no URL needs."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        if last.isdecimal() or last.lower().startswith("0x"):
            raise ValueError(f"{host} is a number and no name") from None
        return None


def describe_refusal(
    address: Address, *, allow_private: bool, allowed_networks: Sequence[Network]
) -> str | None:
    """Return why `address` may not be connected to, None if it may."""
    if any(address in network for network in allowed_networks):
        return None
    if address.is_unspecified:
        return "unspecified"
    if address.is_loopback:
        return "a loopback address"
    if isinstance(address, ipaddress.IPv6Address):
        if address in _MAPPED:
            return "an IPv4 address in IPv6 form"
        if address in _NAT64 or address in _SIX_TO_FOUR:  # the packet goes to the IPv4 address inside
            shift = 0 if address in _NAT64 else 80
            inner = ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
            return describe_refusal(inner, allow_private=allow_private, allowed_networks=allowed_networks)
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "a multicast address"
    if any(address in network for network in _PRIVATE):
        return None if allow_private else "private"
    return None if address.is_global else "reserved"


async def resolve_with_system(host: str, port: int) -> Sequence[str]:
    """Ask the host's own resolver (getaddrinfo)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class CheckedResolver(AbstractResolver):
    """aiohttp's way from a name to addresses: only good ones come out, and aiohttp connects to no other.

    Used with aiohttp's own cache off. Addresses in the URL itself never come here (agent.download.origin)."""

    def __init__(
        self,
        resolve: Resolve,
        *,
        allow_private: bool,
        allowed_networks: Sequence[Network],
        check: bool = True,
    ) -> None:
        self._resolve, self._check = resolve, check
        self._allow_private, self._allowed_networks = allow_private, allowed_networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises AddressRefusedError when every address is refused, OSError when there is none."""
        good: list[ResolveResult] = []
        refused: AddressRefusedError | None = None
        for text in await self._resolve(host, port):
            address = ipaddress.ip_address(text.partition("%")[0])
            kind = describe_refusal(
                address, allow_private=self._allow_private, allowed_networks=self._allowed_networks
            )
            if kind is None or not self._check:
                good.append(_as_result(host, port, address))
            else:
                refused = refused or AddressRefusedError(str(address), kind)
        if not good and refused is not None:
            raise refused
        if not good:
            raise OSError(None, "the name has no address")
        return good

    async def close(self) -> None:
        """Nothing is held."""


def _as_result(host: str, port: int, address: Address) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
        proto=0,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
