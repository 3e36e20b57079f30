"""When the pruner works, and that nothing keeps it from working again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.core.refusals import StoreUnavailableError
from controller.pruner import EVERY_S, FIRST_AFTER_S, PAUSE_S, Pruner, Retention
from tests.fakes.clock import START, FakeClock

DAY = timedelta(days=1)


@dataclass
class FakeStore:
    """Has `pages` pages of each; what was asked stands in `asked`."""

    pages: int = 1
    raises: Exception | None = None
    asked: list[tuple[str, datetime, int | str]] = field(default_factory=list)

    async def prune_events(self, before: datetime, after: int) -> tuple[int, int | None]:
        self._note("events", before, after)
        return 1, after + 1 if after + 1 < self.pages else None

    async def prune_history(self, before: datetime, after: str) -> tuple[int, str | None]:
        self._note("history", before, after)
        return 1, after + "x" if len(after) + 1 < self.pages else None

    async def forget_queries(self) -> int:
        return 0

    def _note(self, what: str, before: datetime, after: int | str) -> None:
        self.asked.append((what, before, after))
        if self.raises is not None:
            raise self.raises


@asynccontextmanager
async def running(store: FakeStore, retention: Retention) -> AsyncIterator[FakeClock]:
    clock = FakeClock()
    task = asyncio.create_task(Pruner(store, retention, clock).run())
    await _until_it_sleeps(clock)
    yield clock
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def _until_it_sleeps(clock: FakeClock) -> None:
    async with asyncio.timeout(5):
        await clock.slept.wait()
    clock.slept.clear()


async def wake(clock: FakeClock, seconds: float) -> None:
    clock.advance(seconds)
    await _until_it_sleeps(clock)


async def test_it_begins_a_while_after_the_start_and_works_each_hour() -> None:
    store = FakeStore()
    async with running(store, Retention(events=DAY)) as clock:
        assert store.asked == []
        await wake(clock, FIRST_AFTER_S)
        await wake(clock, EVERY_S)
    first = START + timedelta(seconds=FIRST_AFTER_S) - DAY
    assert store.asked == [("events", first, 0), ("events", first + timedelta(seconds=EVERY_S), 0)]


async def test_it_goes_page_by_page_with_pauses_and_one_time_for_the_round() -> None:
    store = FakeStore(pages=3)
    async with running(store, Retention(events=DAY, history=2 * DAY)) as clock:
        await wake(clock, FIRST_AFTER_S)
        for _ in range(4):
            assert clock.sleeps_for(PAUSE_S)
            await wake(clock, PAUSE_S)
        assert clock.sleeps_for(EVERY_S)
    now = START + timedelta(seconds=FIRST_AFTER_S)
    assert [(what, after) for what, _, after in store.asked] == [
        ("events", 0),
        ("events", 1),
        ("events", 2),
        ("history", ""),
        ("history", "x"),
        ("history", "xx"),
    ]
    assert {before for what, before, _ in store.asked if what == "events"} == {now - DAY}


async def test_a_database_that_is_away_and_a_bug_only_put_it_off() -> None:
    store = FakeStore()
    async with running(store, Retention(events=DAY)) as clock:
        for trouble in (StoreUnavailableError("away"), KeyError("a bug"), None):
            store.raises = trouble
            await wake(clock, EVERY_S)
    assert len(store.asked) == 3


async def test_what_is_kept_for_ever_is_not_asked_for() -> None:
    store = FakeStore()
    async with running(store, Retention()) as clock:
        await wake(clock, FIRST_AFTER_S)
    assert store.asked == []
