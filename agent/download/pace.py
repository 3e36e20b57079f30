"""How fast bytes come: not slower than the least rate, and all together not faster than the host allows."""

from typing import Final

from agent.download.policy import DownloadPolicy
from agent.errors import DownloadTooSlowError
from shared.clock import Clock

_CREDIT_S: Final = 0.1  # a sleep that lasted too long is made up for, up to this
_SHORTEST_SLEEP_S: Final = 0.005
_LIMITED_READS_S: Final = 10  # how many reads a second the limit is parted into
_LEAST_READ_BYTES: Final = 1024
_MOST_READ_BYTES: Final = 128 * 1024


class Throttle:
    """Shared by all downloads of an agent. Without a limit it never waits."""

    def __init__(self, limit_bytes_s: int, clock: Clock) -> None:
        self._limit, self._clock = limit_bytes_s, clock
        self._due = clock.monotonic()

    @property
    def read_bytes(self) -> int:
        """The most to read in one go, so that the traffic is even; -1 for whatever has come."""
        if not self._limit:
            return -1
        return max(_LEAST_READ_BYTES, min(_MOST_READ_BYTES, self._limit // _LIMITED_READS_S))

    async def take(self, size: int) -> float:
        """Wait until `size` more bytes are due; returns how long that was, in seconds. Safe to cancel."""
        if not self._limit:
            return 0.0
        now = self._clock.monotonic()
        self._due = max(self._due, now - _CREDIT_S) + size / self._limit
        if (wait_s := self._due - now) < _SHORTEST_SLEEP_S:
            return 0.0
        await self._clock.sleep(wait_s)
        return self._clock.monotonic() - now


class Pace:
    """Notices an origin that trickles. One that sends nothing at all is the read timeout's."""

    def __init__(self, policy: DownloadPolicy, clock: Clock, shown: str) -> None:
        self._policy, self._clock, self._shown = policy, clock, shown
        self._since, self._received = clock.monotonic(), 0

    def excuse(self, seconds: float) -> None:
        """Do not count time that this host spent waiting by its own will."""
        self._since += seconds

    def check(self, received: int) -> None:
        """`received` counts every byte that came so far. Raises DownloadTooSlowError."""
        passed = self._clock.monotonic() - self._since
        if passed < self._policy.rate_window_s:
            return
        rate = (received - self._received) / passed
        if rate < self._policy.min_rate_bytes_s:
            least = self._policy.min_rate_bytes_s
            raise DownloadTooSlowError(self._shown, f"{rate:.0f} bytes/s came, {least} is the least")
        self._since, self._received = self._since + passed, received
