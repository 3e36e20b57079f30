# ruff: noqa: ASYNC240 — each test has a loop to itself
"""SIGKILL, ENOSPC and EIO in place of each system call by which the agent changes files: whatever is broken,
after a start of the agent the host, the journal and the one report agree, and nothing is left over.

Needs strace and the right to make a namespace of processes; `make faults-agent` makes every fault."""

import asyncio
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from releasehand.model.status import Phase
from tests.fakes.origin import run_origin
from tests.fakes.processes import free_ports
from tests.fakes.waiting import until
from tests.faults.crossings import SEED
from tests.faults.injection.calls import (
    TRACE,
    Fault,
    Point,
    broken_call,
    changing_calls,
    is_complete,
    points,
)
from tests.faults.injection.scenes import Scene, Stage, set_stage
from tests.faults.injection.slot import Slot, namespace_options, open_slot
from tests.faults.injection.truth import Expected, judge_after_fault, judge_end
from tests.faults.order import CHILD, JOURNAL_FAILED, TRACEES, Trace
from tests.faults.tally import Tally

_SAMPLE: Final = 4  # of each fault in each scene: 60 in all
_TRIES: Final = 8
_SIGKILLED: Final = -9


def _why_not() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed: `make faults-agent` as root does, or apt-get install strace"
    if namespace_options() is None:
        return "this user may not make a namespace of processes (unshare --pid): run it as root"
    return ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scene" in metafunc.fixturenames:
        every = metafunc.config.getoption("all_faults", default=False)
        limit = pytest.mark.timeout(7_200 if every else 240)
        metafunc.parametrize("scene", [pytest.param(scene, id=scene, marks=limit) for scene in Scene])


async def test_a_call_that_fails_or_kills_leaves_one_whole_release_and_one_report(
    scene: Scene, tmp_path: Path, tally: Tally, all_faults: bool
) -> None:
    if reason := _why_not():
        pytest.skip(reason)
    options = namespace_options() or ()
    ports = free_ports()
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(run_origin(tmp_path))
        slots = [
            await stack.enter_async_context(open_slot(next(ports), *options))
            for _ in range(max(2, os.cpu_count() or 1))
        ]
        stage = await set_stage(scene, origin, slots[0], tmp_path)
        found = await _find_points(stage, slots, tmp_path)
        wishes = [(fault, point) for fault in Fault for point in found]
        if not all_faults:
            dice = random.Random(f"{SEED} {scene}")
            wishes = [(fault, point) for fault in Fault for point in dice.sample(found, _SAMPLE)]
        violations = await _break_all(stage, slots, wishes, tmp_path)
    for fault in Fault:
        runs = sum(wish[0] is fault for wish in wishes)
        tally.count(f"{fault} in: {scene}", runs, violations[fault])
    assert not any(violations.values()), "\n".join(line for fault in Fault for line in violations[fault])


async def _find_points(stage: Stage, slots: list[Slot], folder: Path) -> list[Point]:
    """Every call by which the scene changes files. One thread or process is traced at a time, as later, when
    calls are broken: a tracer is a process that the agent meets where it looks through all of them."""

    async def find(tracee: str, slot: Slot) -> list[Point]:
        here = folder / f"dry-{tracee}"
        stage.copy(here)
        log = Path(f"{here}.strace")
        order = replace(stage.order(here, slot.port), traces=(Trace(tracee, TRACE, str(log)),))
        code = await slot.carry_out(order, Path(f"{here}.json"))
        assert code == 0, Path(f"{here}.log").read_text()
        if tracee == CHILD and not log.exists():
            return []  # nothing was unpacked
        await until(lambda: is_complete(log))
        return points(tracee, log, here)

    found: list[Point] = []
    for tracee in TRACEES:
        found += await find(tracee, slots[0])
    return found


async def _break_all(
    stage: Stage, slots: list[Slot], wishes: list[tuple[Fault, Point]], folder: Path
) -> dict[Fault, list[str]]:
    violations: dict[Fault, list[str]] = defaultdict(list)
    waiting = list(enumerate(wishes))[::-1]

    async def work(slot: Slot) -> None:
        while waiting:
            number, (fault, point) = waiting.pop()
            wrong = await _break(stage, slot, fault, point, folder / f"{number}")
            violations[fault] += [f"{fault} at {point}: {line}" for line in wrong]

    async with asyncio.TaskGroup() as group:
        for slot in slots:
            group.create_task(work(slot))
    return violations


async def _break(stage: Stage, slot: Slot, fault: Fault, point: Point, folder: Path) -> list[str]:
    """Make the fault, start the agent again, judge; until the very call was hit. How many calls come before
    it differs a little: a service is asked until it is up, an ended process is there until it is reaped."""
    shift = 0
    for number in range(_TRIES):
        here = folder.with_name(f"{folder.name}-{number}")
        log, wrong = await _break_once(stage, slot, fault, point, shift, here)
        if wrong:
            return [*wrong, f"(see {here}*)"]
        await asyncio.to_thread(shutil.rmtree, here)
        call = broken_call(log, here)
        if call is not None and point.is_like(call):
            return []
        passed = [one.nth for one in changing_calls(log, here) if point.is_like(one)]
        shift = passed[0] - point.call.nth if passed else shift + 1
    return ["the call was not made in any of the runs"]


async def _break_once(
    stage: Stage, slot: Slot, fault: Fault, point: Point, shift: int, folder: Path
) -> tuple[Path, list[str]]:
    await asyncio.to_thread(stage.copy, folder)
    log = Path(f"{folder}.strace")
    trace = Trace(point.tracee, point.options(fault, shift=shift), str(log))
    order = replace(stage.order(folder, slot.port), traces=(trace,))
    code = await slot.carry_out(order, Path(f"{folder}.json"))
    await until(lambda: is_complete(log))
    wrong = list(_judge_run(fault, point, code))
    wrong += judge_after_fault(folder, stage.packages.values(), live={stage.plot.target, stage.plot.previous})
    again = replace(order, traces=(), runs="", at_start=False, follows=True)
    code = await slot.carry_out(again, Path(f"{folder}-again.json"))
    if code:
        wrong.append(f"the next start ends with {code}: {Path(f'{folder}-again.log').read_text()[-2000:]}")
    else:
        wrong += judge_end(folder, _expect(stage, fault, point))
    return log, wrong


def _judge_run(fault: Fault, point: Point, code: int) -> Iterator[str]:
    """Whether the process that met the fault ended as it should: only a kill, and a journal that cannot be
    used at the start, end it."""
    if fault is Fault.KILL and point.tracee != CHILD:
        if code not in {_SIGKILLED, 0}:
            yield f"the agent ended with {code} instead of by the kill"
    elif code not in {0, JOURNAL_FAILED}:
        yield f"the agent ended by itself with {code}"


def _expect(stage: Stage, fault: Fault, point: Point) -> Expected:
    plot = stage.plot
    live = {plot.ends: plot.target if plot.ends is Phase.DONE else plot.previous}
    if fault is not Fault.KILL or point.tracee == CHILD:
        live |= {Phase.FAILED: plot.previous, Phase.REVERTED: plot.previous}
        if plot.ends is Phase.REVERTED:
            live[Phase.BROKEN] = ""  # the revert met the error: told, and a person's to mend
    return Expected(plot.generation, live, stage.packages)
