"""SIGKILL of the controller around each of its commits, and every promise checked from outside."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.waiting import until
from tests.faults.crossings import SEED
from tests.faults.fleet import Fleet, run_fleet
from tests.faults.rounds import Stage, judge, play
from tests.faults.tally import Tally

WORLDS: Final = 2  # at a time
_PASSED_WITHIN_S: Final = 10.0
TIMES: Final = {
    "accept": 5,  # how often a round surely passes it
    "cancel": 1,
    "move": 4,
    "record": 4,
    "greet": 2,
    "observe": 2,
    "expire": 3,
    "seen": 3,
    "start": 1,
    "retry": 1,
    "retire": 1,
    "hand-over": 1,
}
_AFTER: Final = {"dispatch:sent": 3, "record:acknowledged": 3}
POINTS: Final = {
    **{f"{write}:{side}": n for write, n in TIMES.items() for side in ("begun", "written", "committed")},
    **_AFTER,
}


def kills() -> list[tuple[str, int]]:
    """Each point, and each time that a round passes it."""
    return [(point, nth) for point, times in POINTS.items() for nth in range(1, times + 1)]


def sample() -> list[tuple[str, int]]:
    dice = random.Random(SEED)
    wanted = ("accept:written", "accept:committed", "move:committed", "record:written")
    return [(point, dice.randint(1, POINTS[point])) for point in wanted]


def _plans(every: bool) -> Iterator[list[tuple[str, int]]]:
    """What each world goes through, one after the other."""
    chosen = kills() if every else sample()
    random.Random(SEED).shuffle(chosen)
    for world in range(WORLDS):
        yield chosen[world::WORLDS]


def test_at_least_twenty_points_are_named() -> None:
    assert len(POINTS) >= 20


@pytest.mark.timeout(1_500)
async def test_a_controller_killed_at_any_point_keeps_every_promise(
    all_faults: bool, tmp_path: Path, tally: Tally
) -> None:
    async with asyncio.TaskGroup() as group:
        worlds = [
            group.create_task(_go_through(plan, _make(tmp_path / f"world-{number}")))
            for number, plan in enumerate(_plans(all_faults))
        ]
    violations = [line for world in worlds for line in world.result()[1]]
    tally.add("controller killed at a point", sum(world.result()[0] for world in worlds), violations)


async def _go_through(plan: Sequence[tuple[str, int]], folder: Path) -> tuple[int, list[str]]:
    """How often the controller was killed, and what was wrong."""
    stage, wrong = Stage(), []
    async with run_fleet(folder, stage.present, away=[stage.away]) as fleet:
        for number, (point, nth) in enumerate(plan):
            wrong += [f"{point} ({nth}): {line}" for line in await cross(fleet, stage, point, nth, number)]
        return fleet.kills, wrong


async def cross(fleet: Fleet, stage: Stage, point: str, nth: int, number: int) -> list[str]:
    fleet.arm(point, nth)
    if point.startswith("start:"):
        await fleet.kill()  # it dies again while it starts
        await until(lambda: not fleet.is_armed)
        await fleet.is_back()
    wrong = await play(fleet, stage, number)
    try:
        await until(lambda: not fleet.is_armed, within_s=_PASSED_WITHIN_S)  # a sweep comes once a second
    except TimeoutError:
        fleet.disarm()
        return [*wrong, "it was never passed"]
    await fleet.is_back()
    return [*wrong, *await judge(fleet, stage)]


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder
