"""Joining while the controller is busy: who is put off comes again, and all of a site get their turn."""

import asyncio

import pytest

from agent.enrolment import BusyError, RefusedError, UnansweredError
from agent.patience import LONGEST_PAUSE_S, PATIENCE_S, Patience
from controller.core.allowance import Allowance
from controller.hub.doors import CALL_BURST, CALLS_PER_S
from shared.clock import SystemClock
from tests.fakes.clock import FakeClock

BUSY = "cannot join at hub:8443: it answered HTTP 503 too many hosts ask at once"
SITE = 1_000


class Answers:
    """What the controller says, one after the other; the last one for ever."""

    def __init__(self, *answers: str | Exception) -> None:
        self.waiting = list(answers)

    async def ask(self) -> str:
        answer = self.waiting.pop(0) if len(self.waiting) > 1 else self.waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class SteppingClock(FakeClock):
    """Pauses cost no time, but are on the clock."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


async def test_a_busy_controller_is_asked_again_after_longer_and_longer_pauses() -> None:
    clock, said = SteppingClock(), list[str]()
    answers = Answers(BusyError(BUSY), BusyError(BUSY), BusyError(BUSY), "joined")
    assert await Patience(clock, said.append, lambda: 0.5).ask(answers.ask) == "joined"
    assert said == [f"{BUSY}; trying again in {pause} s" for pause in (2, 3, 6)]
    assert clock.monotonic() == 1_000 + 1.5 + 3 + 6


async def test_patience_ends() -> None:
    clock, said = SteppingClock(), list[str]()
    with pytest.raises(BusyError, match="HTTP 503"):
        await Patience(clock, said.append, lambda: 0.99).ask(Answers(BusyError(BUSY)).ask)
    assert PATIENCE_S - LONGEST_PAUSE_S < clock.monotonic() - 1_000 <= PATIENCE_S
    assert len(said) < 30


@pytest.mark.parametrize(
    "error", [UnansweredError("no such host"), RefusedError("token_used", "it was used")]
)
async def test_what_another_try_does_not_change_is_told_at_once(error: Exception) -> None:
    clock, said = SteppingClock(), list[str]()
    with pytest.raises(type(error)):
        await Patience(clock, said.append).ask(Answers(error, "joined").ask)
    assert (said, clock.monotonic()) == ([], 1_000)


async def test_a_site_of_a_thousand_hosts_behind_one_address_joins_by_itself() -> None:
    """Each asks twice, for the authority and to be let in; the hub has one allowance for all."""
    clock = FakeClock()
    allowance = Allowance(CALLS_PER_S, CALL_BURST, clock.monotonic())
    numbers = iter(range(10 * SITE * SITE))
    patience = Patience(clock, lambda _: None, lambda: (next(numbers) * 0.618) % 1)
    joined = 0

    async def question() -> None:
        if allowance.take(1, clock.monotonic()) > 0:
            raise BusyError(BUSY)

    async def join() -> None:
        nonlocal joined
        await patience.ask(question)
        await patience.ask(question)
        joined += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(SITE):
            group.create_task(join())
        while joined < SITE:
            await SystemClock().sleep(0)
            clock.advance(0.5)
    assert clock.monotonic() - 1_000 < PATIENCE_S / 2
