"""A bug in one round of the controller's work is told and does not end the controller."""

import asyncio
from collections.abc import Iterable
from datetime import datetime

import pytest

from controller.bulletin import Bulletin
from controller.core.plan import Standing
from controller.core.task import TaskMove
from controller.dispatcher import Dispatcher
from controller.hub.registry import Registry
from controller.live import Live
from controller.notice import Notices
from controller.store import Changed
from controller.sweeper import Sweeper
from releasehand.model import Presence
from tests.fakes.clock import FakeClock
from tests.fakes.keys import KEYRING


class Faulty:
    """A store whose first answer of each kind is a bug."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.twice = asyncio.Event()

    def _answer(self, name: str) -> None:
        self.asked.append(name)
        if self.asked.count(name) == 1:
            raise LookupError("a bug")
        self.twice.set()

    async def expire(self) -> Changed:
        self._answer("expire")
        return Changed()

    async def find_silent(self, before: object) -> dict[str, tuple[int, Presence]]:
        return {}

    async def write_live_state(self, **seen: object) -> None:
        return None

    async def load_tasks(self, ids: Iterable[int]) -> list[Standing]:
        self._answer("load_tasks")
        return []

    async def due_retries(self, since: datetime) -> list[int]:
        return [1]

    async def open_tasks(self, agent_ids: list[str]) -> list[int]:
        return []

    async def missed_tasks(self, agent_ids: list[str]) -> list[int]:
        return []

    async def move(self, task_moves: list[TaskMove]) -> Changed:
        return Changed()


@pytest.mark.parametrize("part", ["sweeper", "dispatcher"])
async def test_a_bug_in_one_round_leaves_the_next_one_working(part: str) -> None:
    store, clock, notices = Faulty(), FakeClock(), Notices(Bulletin())
    dispatcher = Dispatcher(store, Registry(), notices, clock, KEYRING)
    sweeper = Sweeper(store, Live(), notices, clock)
    dispatcher.wake([1])
    work = asyncio.create_task(sweeper.run() if part == "sweeper" else dispatcher.run())
    async with asyncio.timeout(10):
        while not store.twice.is_set():
            await clock.slept.wait()
            clock.slept.clear()
            clock.advance(1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
