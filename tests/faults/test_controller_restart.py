"""SIGKILL of the controller in the middle of a large deployment: a restart is a non-event."""

import signal
from pathlib import Path
from typing import Final

import pytest

from releasehand.model import Phase, Status
from shared.clock import SystemClock
from tests.fakes.agent import Script
from tests.fakes.waiting import until, until_told
from tests.faults.fleet import SERVICE, Fleet, make_agent, run_fleet
from tests.faults.tally import Tally

PER_AGENT: Final = 20
VISIBLE_WITHIN_S: Final = 30.0
_ENDS_WITHIN_S: Final = 60.0


@pytest.mark.timeout(240)
async def test_a_restart_in_the_middle_of_a_deployment_is_a_non_event(
    all_faults: bool, tmp_path: Path, tally: Tally
) -> None:
    size, kills = (500, 5) if all_faults else (100, 1)
    names = [f"i-{number:03}" for number in range(size)]
    agents = [make_agent(f"host-{at}", names[at : at + PER_AGENT]) for at in range(0, size, PER_AGENT)]
    async with run_fleet(tmp_path, agents) as fleet:
        wrong: list[str] = []
        for number in range(1, kills + 1):
            wrong += await _deploy_and_kill(fleet, f"v{number}", names, size * number // (kills + 1))
        assert fleet.kills == kills
    tally.add("controller killed in a large deployment", kills, wrong)


async def _deploy_and_kill(fleet: Fleet, version: str, names: list[str], after: int) -> list[str]:
    """Kill it once the hosts have activated `after` instances; a fifth of the hosts ends its work then."""
    working = fleet.agents[::5]
    for agent in working:
        agent.scripts = [Script(hold=Phase.CHECKING)] * len(agent.versions)
    path = {"service": SERVICE, "version": version, "deploy_id": version, "instances": names}
    before = len(fleet.agents[0].activated)
    answer = await fleet.ask("/v1/deployment", path | {"package_url": f"https://packages.test/{version}"})
    assert answer["total_instances"] == len(names)
    await until(lambda: _count(fleet, version) >= after)
    kills = fleet.kills
    fleet.controller.send(signal.SIGKILL)
    await until(lambda: not fleet.controller.runs or fleet.kills > kills)
    for agent in working:
        agent.go_on()
        agent.scripts = []
    await until(lambda: fleet.kills > kills)
    started = SystemClock().monotonic()
    await fleet.is_back()
    found = await fleet.client.get_deployment_status(version)
    reached = found.progress.completed
    await until_told(
        lambda: fleet.client.get_deployment_status(version),
        lambda status: status.status is Status.COMPLETED or status.progress.completed > reached,
        within_s=_ENDS_WITHIN_S,
    )
    visible_s = SystemClock().monotonic() - started
    status = await fleet.client.wait_for_deployment(version, timeout_s=_ENDS_WITHIN_S)
    wrong = []
    if visible_s > VISIBLE_WITHIN_S:
        wrong.append(f"progress was visible {visible_s:.1f} s after the start")
    if status.status is not Status.COMPLETED or status.progress.completed != len(names):
        wrong.append(f"{version} ended {status.status} with {status.progress}")
    wrong += [
        f"{task.instance_id} took attempt {task.attempt}" for task in status.instances if task.attempt != 1
    ]
    activations = fleet.activations()
    wrong += [f"{name}: {n} activations" for name in names if (n := activations[version, name]) != 1]
    live = await fleet.live()
    wrong += [f"{name} is said to run {live.get(name)}" for name in names if live.get(name) != version]
    history = await fleet.client.get_version_history(names[-1])
    if [entry.version for entry in history.history].count(version) != 1:
        wrong.append(f"history of {names[-1]}: {history.history}")
    assert before < len(fleet.agents[0].activated)
    return [f"{version}: {line}" for line in wrong]


def _count(fleet: Fleet, version: str) -> int:
    return sum(operation == version for agent in fleet.agents for operation, _ in agent.activated)
