"""A clock that stands still until a test moves it."""

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """shared.clock.Clock. `advance` wakes the sleepers whose time has come, in order."""

    def __init__(self, monotonic_s: float = 1_000.0) -> None:
        self._start_s = self._now_s = monotonic_s
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.slept = asyncio.Event()  # set by each sleep that began

    def now(self) -> datetime:
        return START + timedelta(seconds=self._now_s - self._start_s)

    def monotonic(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        if seconds <= 0:
            future.set_result(None)
        else:
            self._sleepers.append((self._now_s + seconds, future))
            self.slept.set()
        await future

    def sleeps_for(self, seconds: float) -> bool:
        """Whether somebody sleeps that will wake exactly that much later."""
        return any(at == self._now_s + seconds and not future.done() for at, future in self._sleepers)

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
        due = sorted((one for one in self._sleepers if one[0] <= self._now_s), key=lambda one: one[0])
        self._sleepers = [one for one in self._sleepers if one[0] > self._now_s]
        for _, future in due:
            if not future.done():
                future.set_result(None)
