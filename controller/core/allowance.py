"""How much somebody may ask for: so much per second for long, more at once now and then (a token bucket)."""

import ipaddress
from typing import Final

IPV6_PREFIX: Final = 64
"""What one customer of a network has: whoever has one such address has all of them."""


def peer_group(address: str) -> str:
    """What is counted as one: an IPv4 address, or the network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


class Allowance:
    """For one caller or one link. Times are seconds of a monotonic clock."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        """`per_s` for long, and up to `burst` after a quiet time."""
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` if it is there: 0. Else nothing is taken: the seconds until it will be there."""
        self._refill(now)
        if self._left < amount:
            return (amount - self._left) / self._per_s
        self._left -= amount
        return 0.0

    def charge(self, amount: float, now: float) -> float:
        """Take `amount` that was used already: the seconds to pause before more is used."""
        self._refill(now)
        self._left -= amount
        return max(0.0, -self._left / self._per_s)

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
