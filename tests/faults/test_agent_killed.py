"""SIGKILL of the agent at every point of its work: after the next start all ends as if nothing had been."""

import asyncio
import signal
from pathlib import Path

import pytest

from releasehand.model import (
    FailureCode,
    HistoryAction,
    HistoryStatus,
    InstanceRollbackParams,
    Phase,
    Status,
)
from shared.attempt import LIVE
from tests.faults.crossings import Crossing, Work, crossings, sample, waves
from tests.faults.tally import Tally
from tests.faults.verdict import Story, judge
from tests.faults.world import Host, Package, World, run_world

ROLLBACKS = frozenset({Work.ROLLBACK, Work.FORCED})
_ENDS_WITHIN_S = 40.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "wave" in metafunc.fixturenames:  # one after the other: a wave fills both cores
        every = metafunc.config.getoption("all_faults", default=False)
        chosen = waves(list(crossings()) if every else sample())
        metafunc.parametrize("wave", chosen, ids=[f"wave-{number}" for number in range(1, len(chosen) + 1)])


def test_the_crossings_cover_every_live_phase_and_the_sample_too() -> None:
    for chosen in (list(crossings()), sample()):
        assert {crossing.phase for crossing in chosen} >= LIVE


@pytest.mark.timeout(180)  # a shared machine may be slow; each wait inside has its own deadline
async def test_an_agent_that_is_killed_goes_on_where_it_was(
    wave: list[Crossing], tmp_path: Path, tally: Tally
) -> None:
    async with run_world(tmp_path, hosts=len(wave)) as world:
        for host, crossing in zip(world.hosts, wave, strict=True):
            host.armed.start("--kill", f"{crossing.point}:{crossing.nth}")
        for host in world.hosts:
            await host.armed.ready()
        v1, v2, sick = world.publish("v1"), world.publish("v2"), world.publish("v3", manner="sick")
        assert (await world.deploy_to_the_end(v1, world.hosts)).status is Status.COMPLETED
        to_roll_back = [host for host, one in zip(world.hosts, wave, strict=True) if one.work in ROLLBACKS]
        if to_roll_back:
            assert (await world.deploy_to_the_end(v2, to_roll_back)).status is Status.COMPLETED
        async with asyncio.TaskGroup() as group:
            results = [
                group.create_task(_cross(world, host, crossing, v1 if crossing.work in ROLLBACKS else one))
                for host, crossing in zip(world.hosts, wave, strict=True)
                for one in [sick if crossing.work is Work.FAILING else v2]
            ]
    violations = [line for result in results for line in result.result()]
    tally.add("agent killed", len(wave), violations)


async def _cross(world: World, host: Host, crossing: Crossing, package: Package) -> list[str]:
    """One fault from its beginning to its end."""
    started_before = len(host.starts)
    operation_id = await _begin(world, host, crossing, package)
    code = await host.armed.ended()
    wrong = [] if code == -signal.SIGKILL else [f"the agent ended with {code} and not by the kill"]
    if not host.service_runs and crossing.work is not Work.FAILING:  # a sick one ends by itself
        wrong.append("the service died with the agent")
    host.agent.start()
    story = await _tell(world, host, crossing, operation_id)
    wrong += await judge(world, host, story)
    starts = [version for version, _ in host.starts[started_before:]]
    target, previous = package.version, story.live if crossing.previous_starts else ""
    if (starts.count(target), starts.count(previous)) != (crossing.target_starts, crossing.previous_starts):
        wrong.append(f"services were started for {starts}")
    return [f"{crossing}: {line}" for line in wrong]


async def _begin(world: World, host: Host, crossing: Crossing, package: Package) -> str:
    if crossing.work not in ROLLBACKS:
        return (await world.deploy(package, [host])).deploy_id
    params = InstanceRollbackParams(
        instance_id=host.instance,
        target_version=package.version,
        force=crossing.work is Work.FORCED,
    )
    return (await world.client.rollback_instance(params)).rollback_id


async def _tell(world: World, host: Host, crossing: Crossing, operation_id: str) -> Story:
    """Wait for the end; what should then be true."""
    if crossing.work in ROLLBACKS:
        ended = await world.client.wait_for_rollback(operation_id, timeout_s=_ENDS_WITHIN_S)
        live, action = "v1", HistoryAction.ROLLBACK
        [task] = ended.instances
    else:
        deployed = await world.client.wait_for_deployment(operation_id, timeout_s=_ENDS_WITHIN_S)
        live, action = "v2", HistoryAction.DEPLOY
        [task] = deployed.instances
    if crossing.work is not Work.FAILING:
        history = ((action, HistoryStatus.SUCCESS, live),)
        return Story(operation_id, task, Status.COMPLETED, live, Phase.DONE, history)
    return Story(
        operation_id,
        task,
        Status.FAILED,
        "v1",
        Phase.REVERTED,
        (
            (HistoryAction.DEPLOY, HistoryStatus.FAILED, "v3"),
            (HistoryAction.REVERT, HistoryStatus.SUCCESS, "v1"),
        ),
        error_code=FailureCode.CHECK_FAILED,
    )
