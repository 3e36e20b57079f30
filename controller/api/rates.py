"""How often each caller may call, and each address that shows no token."""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final

from controller.core.allowance import Allowance
from releasehand.model import ErrorType
from shared.clock import Clock

from .errors import ApiError

MAX_PEERS: Final = 10_000
"""Addresses that are remembered; the one not heard for longest is forgotten, with what it has used."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Calls per second for long, and how many at once after a quiet time."""

    per_s: float = 200.0
    burst: int = 2_000


DEFAULT_LIMITS: Final = RateLimits()


class Rates:
    """For the event loop alone. Callers are as many as there are tokens."""

    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._callers: dict[str, Allowance] = {}
        self._peers: OrderedDict[str, Allowance] = OrderedDict()

    def count_caller(self, caller: str) -> None:
        """A call with a token that is known. Raises ApiError `too_many_requests`."""
        self._count(self._callers.setdefault(caller, self._new()), f"caller '{caller}'")

    def count_peer(self, address: str) -> None:
        """A call that shows none, or one that nobody has: guessing is slow. Raises ApiError
        `too_many_requests`."""
        allowance = self._peers.pop(address, None) or self._new()
        self._peers[address] = allowance
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        self._count(allowance, "this address")

    def _new(self) -> Allowance:
        return Allowance(self._limits.per_s, self._limits.burst, self._clock.monotonic())

    def _count(self, allowance: Allowance, who: str) -> None:
        wait_s = allowance.take(1, self._clock.monotonic())
        if wait_s > 0:
            detail = f"cannot serve {who}: it makes more than {self._limits.per_s:g} calls a second"
            raise ApiError(
                ErrorType.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(max(1, ceil(wait_s)))}
            )
