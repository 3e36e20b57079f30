"""A package that kills the agent whenever it is activated: the agent takes it back and stays up."""

import signal
from pathlib import Path

import pytest

from releasehand.model import FailureCode, HistoryAction, HistoryStatus, Phase, Status
from tests.faults.tally import Tally
from tests.faults.verdict import Story, judge
from tests.faults.world import run_world

ALLOWED_STARTS = 3


@pytest.mark.timeout(120)
async def test_a_package_that_kills_the_agent_each_time_is_reverted_and_held(
    tmp_path: Path, tally: Tally
) -> None:
    async with run_world(tmp_path, hosts=1) as world:
        [host] = world.hosts
        await world.start_agents()
        assert (await world.deploy_to_the_end(world.publish("v1"), [host])).status is Status.COMPLETED
        deadly = world.publish("v2", manner="deadly")
        params = await world.deploy(deadly, [host])
        deaths = 0
        for _ in range(ALLOWED_STARTS):  # the one that took the command, and two that went on with it
            assert await host.agent.ended() == -signal.SIGKILL
            deaths += 1
            host.agent.start()
        status = await world.client.wait_for_deployment(params.deploy_id, timeout_s=40)
        [task] = status.instances
        story = Story(
            params.deploy_id,
            task,
            Status.FAILED,
            "v1",
            Phase.REVERTED,
            (
                (HistoryAction.DEPLOY, HistoryStatus.FAILED, "v2"),
                (HistoryAction.REVERT, HistoryStatus.SUCCESS, "v1"),
            ),
            error_code=FailureCode.CRASH_LOOP,
        )
        wrong = await judge(world, host, story)
        if host.count_starts("v2") != ALLOWED_STARTS:
            wrong.append(f"v2 was started {host.count_starts('v2')} times")
        host.agent.send(signal.SIGTERM)  # one more start finds nothing to go on with
        assert await host.agent.ended() == 0
        await world.start_agents()
        wrong += await judge(world, host, story)
        if host.count_starts("v2") != ALLOWED_STARTS:
            wrong.append("v2 was not held: it was started again")
    tally.add("crash loop", deaths, wrong)
