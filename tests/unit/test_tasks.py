"""What a group of tasks leaves behind when it has failed: nothing."""

import asyncio
import re
from pathlib import Path

import pytest

from shared.tasks import TaskGroup

ROOT = Path(__file__).resolve().parents[2]


class BrokenError(Exception):
    pass


async def fail() -> None:
    raise BrokenError


def cancels() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def lose_one(*, at_work: bool = False) -> None:
    """A group in which a task fails while the body waits for its end, or is still at work."""
    async with TaskGroup() as group:
        group.create_task(fail())
        group.create_task(asyncio.Event().wait())
        if at_work:
            await asyncio.Event().wait()


@pytest.mark.parametrize("at_work", [False, True])
async def test_a_task_whose_group_has_failed_is_not_taken_for_cancelled(at_work: bool) -> None:
    with pytest.raises(ExceptionGroup):
        await lose_one(at_work=at_work)
    assert cancels() == 0


async def test_a_timeout_after_a_group_has_failed_is_a_timeout() -> None:
    """It was a cancellation that nobody had asked for: with Python 3.11.2, the end of an agent's uplink."""
    with pytest.raises(ExceptionGroup):
        await lose_one()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_cancel_from_outside_counts_also_when_the_group_fails_of_it() -> None:
    counted: list[int] = []

    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BrokenError from None

    async def work(begun: asyncio.Event) -> None:
        try:
            async with TaskGroup() as group:
                group.create_task(fail_when_cancelled())
                begun.set()
        finally:
            counted.append(cancels())

    begun = asyncio.Event()
    task = asyncio.create_task(work(begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(ExceptionGroup):
        await task
    assert counted == [1]


@pytest.mark.parametrize("folder", ["agent", "controller", "shared", "releasehand"])
def test_nothing_that_is_shipped_uses_another_group(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*.py") if path != ROOT / "shared" / "tasks.py"]
    assert files
    users = [str(path) for path in files if re.search(r"asyncio\.TaskGroup\b", path.read_text())]
    assert not users
