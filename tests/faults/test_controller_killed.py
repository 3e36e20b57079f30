"""SIGKILL of the controller in every phase of a deployment to three hosts: each activates it exactly once."""

import asyncio
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from releasehand import ConnectionFailedError, UnavailableError
from releasehand.model import (
    DeployParams,
    DeployResult,
    DeployStatus,
    FailureCode,
    HistoryAction,
    HistoryStatus,
    Phase,
    Status,
    TaskStatus,
)
from shared.clock import SystemClock
from tests.fakes.waiting import until
from tests.faults.crossings import SEED
from tests.faults.tally import Tally
from tests.faults.verdict import Story, judge
from tests.faults.world import SERVICE, Package, World, run_world

HOSTS: Final = 3
PER_WORLD: Final = 3  # kills of one controller, one after the other
WORLDS: Final = 2  # at a time
_ENDS_WITHIN_S: Final = 40.0
_FORWARD: Final = tuple(
    f"{phase}:{side}"
    for phase in ("downloading", "verifying", "unpacking", "staged", "activating", "checking")
    for side in ("entered", "left")
)
_REVERT: Final = ("reverting:entered", "reverting:left", "reverted:entered")
_LONGEST_DELAY_S: Final = 0.6


@dataclass(frozen=True)
class Kill:
    """When the controller dies. With `point`, all agents stand still there meanwhile; otherwise `delay_s`
    after the call was sent. With `away`, the hosts end their work before a controller is back."""

    point: str = ""
    delay_s: float = 0
    away: bool = False

    def __str__(self) -> str:
        how = f"with the agents at {self.point}" if self.point else f"{self.delay_s:.3f} s after the call"
        return f"controller killed {how}{', which ended without it' if self.away else ''}"


def kills() -> list[Kill]:
    """Every point, with and without hosts that end before the controller is back, and some moments."""
    dice = random.Random(SEED)
    forward = ("queued:left", *_FORWARD, "done:entered")
    points = [Kill(point, away=away) for point in forward for away in (False, True)]
    reverts = [Kill(point, away=away) for point in _REVERT for away in (False, True)]
    moments = [Kill(delay_s=dice.uniform(0, _LONGEST_DELAY_S), away=bool(n % 2)) for n in range(20)]
    return [*points, *reverts, *moments]


def sample() -> list[Kill]:
    """A seeded one for each stage of the work, and a moment."""
    dice, everything = random.Random(SEED), kills()
    stages = (
        ("queued", "downloading", "verifying"),
        ("unpacking", "staged"),
        ("activating", "checking"),
        ("done",),
        ("reverting", "reverted"),
        ("",),
    )
    return [dice.choice([one for one in everything if one.point.partition(":")[0] in s]) for s in stages]


def _worlds(chosen: Sequence[Kill]) -> Iterator[list[Kill]]:
    for at in range(0, len(chosen), PER_WORLD):
        yield list(chosen[at : at + PER_WORLD])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "plans" in metafunc.fixturenames:
        every = metafunc.config.getoption("all_faults", default=False)
        worlds = list(_worlds(kills() if every else sample()))
        plans = [worlds[at : at + WORLDS] for at in range(0, len(worlds), WORLDS)]
        metafunc.parametrize("plans", plans, ids=[f"worlds-{number}" for number in range(1, len(plans) + 1)])


@pytest.mark.timeout(180)  # a shared machine may be slow; each wait inside has its own deadline
async def test_a_controller_that_is_killed_loses_and_repeats_nothing(
    plans: list[list[Kill]], tmp_path: Path, tally: Tally
) -> None:
    async with asyncio.TaskGroup() as group:
        results = [
            group.create_task(_kill_again_and_again(plan, tmp_path / f"world-{number}"))
            for number, plan in enumerate(plans)
        ]
    violations = [line for result in results for line in result.result()]
    tally.add("controller killed", sum(map(len, plans)), violations)


async def _kill_again_and_again(plan: Sequence[Kill], folder: Path) -> list[str]:
    wrong = []
    async with run_world(folder, hosts=HOSTS) as world:
        holds = [item for number, kill in enumerate(plan) for item in _hold(plan, number, kill)]
        for host in world.hosts:
            host.armed.start(*holds)
        for host in world.hosts:
            await host.armed.ready()
        v0 = world.publish("v0")
        assert (await world.deploy_to_the_end(v0, world.hosts)).status is Status.COMPLETED
        live = "v0"
        for number, kill in enumerate(plan, start=1):
            manner = "sick" if kill.point in _REVERT else "good"
            package = world.publish(f"v{number}", manner=manner)
            found = await _cross(world, kill, package, live)
            wrong += [f"{kill}: {line}" for line in found]
            live = live if manner == "sick" else package.version
    return wrong


def _hold(plan: Sequence[Kill], number: int, kill: Kill) -> list[str]:
    """Each deployment passes each point of the way forward once, a revert's only if it reverts."""
    if not kill.point:
        return []
    earlier = plan[:number]
    nth = 1 + sum((one.point in _REVERT) == (kill.point in _REVERT) for one in earlier)
    if kill.point not in _REVERT:
        nth = 2 + number
        if kill.point == "done:entered":  # v0 was done, and every earlier one that did not revert
            nth = 2 + sum(one.point not in _REVERT for one in earlier)
    return ["--hold", f"{kill.point}:{nth}"]


async def _cross(world: World, kill: Kill, package: Package, live: str) -> list[str]:
    """One fault from its beginning to its end."""
    params = DeployParams(
        service=SERVICE,
        version=package.version,
        instances=[host.instance for host in world.hosts],
        package_url=package.url,
        package_sha256=package.sha256,
        deploy_id=f"deploy-{package.version}",
    )
    async with asyncio.TaskGroup() as group:
        call = group.create_task(_call_until_answered(world, params))
        if kill.point:
            await until(lambda: all(host.armed.stopped for host in world.hosts))
        else:
            await SystemClock().sleep(kill.delay_s)
        await world.controller.kill()
        if kill.away:
            _release(world)
            await until(lambda: not any(host.attempts()[-1].live for host in world.hosts))
        await world.start_controller()
        _release(world)
    answer = call.result()
    status = await world.client.wait_for_deployment(params.deploy_id, timeout_s=_ENDS_WITHIN_S)
    again = await world.client.execute_deployment(params)
    wrong = []
    if again.model_copy(update={"status": answer.status}) != answer or again.status != status.status:
        wrong.append(f"the same id is answered {again} after {answer}")
    for host, task in zip(world.hosts, status.instances, strict=True):
        wrong += await judge(world, host, _tell(status, task, kill, live))
        if (count := host.count_starts(package.version)) != 1:
            wrong.append(f"{host.instance}: {package.version} was started {count} times")
    return wrong


async def _call_until_answered(world: World, params: DeployParams) -> DeployResult:
    """As a scheduler does that gets no answer: the id makes it safe."""
    async with asyncio.timeout(_ENDS_WITHIN_S):
        while True:
            with suppress(ConnectionFailedError, UnavailableError):
                return await world.client.execute_deployment(params)


def _release(world: World) -> None:
    for host in world.hosts:
        host.armed.send(signal.SIGCONT)


def _tell(status: DeployStatus, task: TaskStatus, kill: Kill, live: str) -> Story:
    """What should be true of an instance that had `live` before."""
    deploy, revert = HistoryAction.DEPLOY, HistoryAction.REVERT
    success, failed = HistoryStatus.SUCCESS, HistoryStatus.FAILED
    if kill.point not in _REVERT:
        history = ((deploy, success, status.version),)
        return Story(status.deploy_id, task, Status.COMPLETED, status.version, Phase.DONE, history)
    return Story(
        status.deploy_id,
        task,
        Status.FAILED,
        live,
        Phase.REVERTED,
        ((deploy, failed, status.version), (revert, success, live)),
        error_code=FailureCode.CHECK_FAILED,
    )
