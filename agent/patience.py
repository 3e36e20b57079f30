"""Asking a controller again that is busy: all hosts of a site may join at once, from one address.

What it says to that is no refusal: the same question, somewhat later, is answered."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import Final, TypeVar

from agent.enrolment import BusyError
from shared.clock import Clock

PATIENCE_S: Final = 600.0
"""A hub lets one address ask ten times a second (controller.hub.doors), and joining takes two questions:
1,000 hosts behind one address need some minutes."""
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 30.0

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Patience:
    """`tell` hears each time why there is a wait, in a line for people; `jitter` gives numbers in [0, 1), so
    that those who were sent away together do not come back together."""

    clock: Clock
    tell: Callable[[str], None]
    jitter: Callable[[], float] = random
    limit_s: float = PATIENCE_S

    async def ask(self, question: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """The answer, asked for again while the controller is busy, which must be safe. Safe to cancel.
        Raises BusyError when `limit_s` is over, and whatever else `question` raises at once."""
        begun, longest_s = self.clock.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return await question()
            except BusyError as exc:
                pause_s = longest_s * (0.5 + 0.5 * self.jitter())
                if self.clock.monotonic() + pause_s - begun > self.limit_s:
                    raise
                self.tell(f"{exc}; trying again in {pause_s:.0f} s")
            await self.clock.sleep(pause_s)
            longest_s = min(LONGEST_PAUSE_S, 2 * longest_s)
