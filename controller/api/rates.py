"""How often each caller may call, and each address that shows no token or one that is not good."""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final

from controller.core.allowance import Allowance, peer_group
from releasehand.model import ErrorType
from shared.clock import Clock

from .errors import ApiError

MAX_REMEMBERED: Final = 10_000
"""Callers or addresses; the one not heard for longest is forgotten, with what it has used."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Calls per second for long, and how many at once after a quiet time."""

    per_s: float = 200.0
    burst: int = 2_000


DEFAULT_LIMITS: Final = RateLimits()
FAILURE_LIMITS: Final = RateLimits(per_s=1.0, burst=10)
"""Of one address, for tokens that are not good: guessing is slow."""


class Rates:
    """For the event loop alone."""

    def __init__(self, limits: RateLimits, failures: RateLimits, clock: Clock) -> None:
        """`failures` limit an address that shows no token, or one that is not good."""
        self._callers = _Allowances(limits, clock)
        self._peers = _Allowances(limits, clock)
        self._failures = _Allowances(failures, clock)

    def count_caller(self, caller: str) -> None:
        """A call with a token that is known. Raises ApiError `too_many_requests`."""
        self._callers.count(caller, f"caller '{caller}'", "calls")

    def count_peer(self, address: str) -> None:
        """A call of a route that is open to everybody. Raises ApiError `too_many_requests`."""
        self._peers.count(peer_group(address), "this address", "calls")

    def count_failure(self, address: str) -> None:
        """A call that shows no token, or one that is not good. Raises ApiError `too_many_requests`."""
        self._failures.count(peer_group(address), "this address", "calls without a token that is good")


class _Allowances:
    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._left: OrderedDict[str, Allowance] = OrderedDict()

    def count(self, who: str, name: str, what: str) -> None:
        now = self._clock.monotonic()
        allowance = self._left.pop(who, None) or Allowance(self._limits.per_s, self._limits.burst, now)
        self._left[who] = allowance
        if len(self._left) > MAX_REMEMBERED:
            self._left.popitem(last=False)
        wait_s = allowance.take(1, now)
        if wait_s > 0:
            detail = f"cannot serve {name}: it makes more than {self._limits.per_s:g} {what} a second"
            raise ApiError(
                ErrorType.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(max(1, ceil(wait_s)))}
            )
