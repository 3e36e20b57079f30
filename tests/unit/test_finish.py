import asyncio

import pytest

from agent.finish import finish


class BrokenWorkError(Exception):
    """What the work raises."""


async def wait(gate: asyncio.Event, log: list[str], error: Exception | None = None) -> str:
    log.append("begun")
    await gate.wait()
    if error:
        raise error
    log.append("ended")
    return "result"


async def test_work_gives_its_result_or_its_error() -> None:
    gate = asyncio.Event()
    gate.set()
    assert await finish(wait(gate, [])) == "result"
    with pytest.raises(BrokenWorkError):
        await finish(wait(gate, [], BrokenWorkError()))


async def test_a_cancel_passes_only_when_the_work_has_ended() -> None:
    gate, log = asyncio.Event(), list[str]()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(finish(wait(gate, log)))
        for _ in range(3):  # a second and a third cancel change nothing
            await turn()
            task.cancel()
        await turn()
        assert log == ["begun"]
        assert not task.done()
        gate.set()
    assert task.cancelled()
    assert log == ["begun", "ended"]


async def test_a_cancel_at_the_very_end_is_not_lost() -> None:
    gate, log = asyncio.Event(), list[str]()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(finish(wait(gate, log)))
        await turn()
        gate.set()
        task.cancel()
    assert task.cancelled()
    assert log == ["begun", "ended"]


async def test_an_error_of_the_work_is_told_even_when_cancelled() -> None:
    gate = asyncio.Event()
    caught: list[Exception] = []

    async def run() -> None:
        try:
            await finish(wait(gate, [], BrokenWorkError()))
        except BrokenWorkError as exc:
            caught.append(exc)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        await turn()
        task.cancel()
        await turn()
        gate.set()
    assert len(caught) == 1


async def turn() -> None:
    """Let the others run as far as they can."""
    for _ in range(5):
        passed = asyncio.Event()
        asyncio.get_running_loop().call_soon(passed.set)
        await passed.wait()
