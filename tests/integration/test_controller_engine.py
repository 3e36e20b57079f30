"""The whole controller with simulated agents over WebSocket and TLS: what becomes of operations."""

import asyncio
from pathlib import Path

import pytest

from releasehand import Client
from releasehand.errors import ConflictError
from releasehand.model import (
    OPEN,
    DeployParams,
    DeployStatus,
    FailureCode,
    InstanceRollbackParams,
    Phase,
    Status,
    TaskStatus,
    WaitingFor,
)
from shared.clock import SystemClock
from tests.fakes.agent import FakeAgent, Script
from tests.fakes.clock import FakeClock
from tests.fakes.controller import RunningController, running_controller
from tests.fakes.ledger import deployment


async def finish(client: Client, deploy_id: str) -> DeployStatus:
    """Ask without `wait`, whose pauses are on the controller's clock."""
    async with asyncio.timeout(10):
        while (status := await client.get_deployment_status(deploy_id)).status in OPEN:
            await SystemClock().sleep(0.02)
    return status


async def until_one(client: Client, deploy_id: str, **wanted: object) -> TaskStatus:
    """Look until the deployment's only task carries these values."""
    async with asyncio.timeout(10):
        while True:
            [task] = (await client.get_deployment_status(deploy_id)).instances
            if all(getattr(task, name) == value for name, value in wanted.items()):
                return task
            await SystemClock().sleep(0.02)


def params(version: str, *instances: str, **said: object) -> DeployParams:
    return deployment(version, instances, **said)  # type: ignore[arg-type]


async def test_a_deployment_to_three_agents_completes(controller: RunningController, client: Client) -> None:
    agents = [FakeAgent(f"host-{n}", {f"u-{n}": "v1"}) for n in (1, 2, 3)]
    async with (
        agents[0].linked(controller),
        agents[1].linked(controller),
        agents[2].linked(controller),
    ):
        accepted = await client.execute_deployment(params("v2", "u-1", "u-2", "u-3"))
        assert accepted.status is Status.PENDING
        status = await finish(client, "d-v2")
        assert (status.status, status.progress.completed) == (Status.COMPLETED, 3)
        assert {task.current_version for task in status.instances} == {"v2"}
        versions = await client.get_service_instance_versions("user")
        assert versions.version_summary == {"v2": 3}
    assert [len(agent.executed) for agent in agents] == [1, 1, 1]


async def test_one_that_fails_makes_the_deployment_fail_with_its_code(
    controller: RunningController, client: Client
) -> None:
    good, bad = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"b": "v1"})
    bad.scripts = [Script(fail=FailureCode.CHECK_FAILED, at=Phase.CHECKING)]
    async with good.linked(controller), bad.linked(controller):
        await client.execute_deployment(params("v2", "a", "b"))
        status = await finish(client, "d-v2")
        assert status.status is Status.FAILED
        told = {task.instance_id: (task.status, task.error_code, task.phase) for task in status.instances}
        assert told == {
            "a": (Status.COMPLETED, "", Phase.DONE),
            "b": (Status.FAILED, FailureCode.CHECK_FAILED, Phase.REVERTED),
        }
        history = (await client.get_version_history("b")).history
        assert [(entry.action, entry.version) for entry in history][:2] == [
            ("revert", "v1"),
            ("deploy", "v2"),
        ]


async def test_an_agent_that_is_away_is_waited_for_and_gets_its_work_when_it_comes(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        pass
    await client.execute_deployment(params("v2", "a"))
    waiting = await until_one(client, "d-v2", waiting_for=WaitingFor.AGENT_OFFLINE)
    assert (waiting.status, waiting.attempt, waiting.started_at) == (Status.PENDING, 0, None)
    async with agent.linked(controller):
        assert (await finish(client, "d-v2")).status is Status.COMPLETED
    assert len(agent.executed) == 1


async def test_a_cancel_while_the_agent_works_is_confirmed_by_it(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.DOWNLOADING)])
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until_in(Phase.DOWNLOADING, "a")
        cancelled = await client.cancel_deployment("d-v2")
        assert cancelled.status is Status.IN_PROGRESS
        status = await finish(client, "d-v2")
        assert (status.status, status.cancelled_at) == (Status.CANCELLED, cancelled.cancelled_at)
        assert status.instances[0].current_version == "v1"


async def test_a_cancel_past_the_point_of_no_return_leaves_the_truth(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.CHECKING)])
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until_in(Phase.CHECKING, "a")
        await client.cancel_deployment("d-v2")
        await agent.until(lambda: agent.cancels)
        assert (await until_one(client, "d-v2")).waiting_for is WaitingFor.CANCEL_CONFIRMATION
        agent.go_on()
        status = await finish(client, "d-v2")
        assert (status.status, status.cancelled_at is None) == (Status.COMPLETED, False)


async def test_a_cancel_that_is_lost_is_sent_again(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.DOWNLOADING)])
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until_in(Phase.DOWNLOADING, "a")
        agent.drops_commands = 1
        await client.cancel_deployment("d-v2")
        await agent.until(lambda: agent.drops_commands == 0)
        assert agent.cancels == []
        clock.advance(10)
        assert (await finish(client, "d-v2")).status is Status.CANCELLED


async def test_a_command_that_is_lost_is_sent_again(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, drops_commands=1)
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until(lambda: agent.drops_commands == 0)
        clock.advance(10.5)
        clock.advance(10)
        status = await finish(client, "d-v2")
        assert (status.status, status.instances[0].attempt) == (Status.COMPLETED, 1)


async def test_a_cut_link_is_resumed_with_the_same_attempt(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.DOWNLOADING)])
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until_in(Phase.DOWNLOADING, "a")
        agent.cut()
        await agent.until(agent.closed.is_set)
    away = await until_one(client, "d-v2", waiting_for=WaitingFor.AGENT_OFFLINE)
    assert (away.status, away.phase) == (Status.IN_PROGRESS, Phase.DOWNLOADING)
    async with agent.linked(controller):
        assert agent.welcome is not None
        assert [(wanted.attempt, wanted.cancel) for wanted in agent.welcome.wanted] == [(1, False)]
        await until_one(client, "d-v2", waiting_for=WaitingFor.AGENT_WORKING)
        agent.go_on()
        status = await finish(client, "d-v2")
        assert (status.status, status.instances[0].attempt) == (Status.COMPLETED, 1)
    assert len(agent.executed) == 1


async def test_what_ended_while_the_link_was_down_is_told_by_the_next(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.STAGED)])
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until_in(Phase.STAGED, "a")
    agent.go_on()
    async with agent.linked(controller):
        assert (await finish(client, "d-v2")).status is Status.COMPLETED
        history = (await client.get_version_history("a")).history
        assert [entry.action for entry in history] == ["deploy", "adopt"]


async def test_a_transient_failure_is_tried_again_after_its_backoff(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(fail=FailureCode.DOWNLOAD_FAILED)] * 2)
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        for attempt in (1, 2):
            waiting = await until_one(client, "d-v2", attempt=attempt, waiting_for=WaitingFor.RETRY_BACKOFF)
            assert waiting.error_code == FailureCode.DOWNLOAD_FAILED
            clock.advance(5)
        status = await finish(client, "d-v2")
        [task] = status.instances
        assert (status.status, task.attempt, task.error_code) == (Status.COMPLETED, 3, "")
    assert [execute.ref.attempt for execute in agent.executed] == [1, 2, 3]


async def test_retries_are_used_up_and_then_it_has_failed(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(fail=FailureCode.DOWNLOAD_FAILED)] * 9)
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a", retry_count=1))
        await until_one(client, "d-v2", waiting_for=WaitingFor.RETRY_BACKOFF)
        clock.advance(5)
        status = await finish(client, "d-v2")
        [task] = status.instances
        assert (task.status, task.attempt, task.error_code) == (
            Status.FAILED,
            2,
            FailureCode.DOWNLOAD_FAILED,
        )


async def test_a_restarted_controller_goes_on_with_the_same_attempt(tmp_path: Path) -> None:
    agent = FakeAgent("host-1", {"a": "v1", "b": "v1"}, scripts=[Script(hold=Phase.DOWNLOADING)])
    async with running_controller(tmp_path, SystemClock()) as controller, controller.client() as client:
        async with agent.linked(controller):
            await client.execute_deployment(params("v2", "a"))
            await agent.until_in(Phase.DOWNLOADING, "a")
        await client.execute_deployment(params("v3", "b"))
    agent.go_on()
    async with running_controller(tmp_path, SystemClock()) as controller, controller.client() as client:
        assert (await until_one(client, "d-v2")).status is Status.IN_PROGRESS
        assert (await until_one(client, "d-v3")).waiting_for is WaitingFor.AGENT_OFFLINE
        async with agent.linked(controller):
            for deploy_id in ("d-v2", "d-v3"):
                status = await finish(client, deploy_id)
                assert (status.status, status.instances[0].attempt) == (Status.COMPLETED, 1)
    assert [execute.version for execute in agent.executed] == ["v2", "v3"]


async def test_force_takes_over_from_a_deployment_that_runs(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.DOWNLOADING)])
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await agent.until_in(Phase.DOWNLOADING, "a")
        rollback = await client.rollback_instance(
            InstanceRollbackParams(instance_id="a", target_version="v1", force=True)
        )
        async with asyncio.timeout(10):
            while (await client.get_rollback_status(rollback.rollback_id)).status is not Status.COMPLETED:
                await SystemClock().sleep(0.02)
        assert (await finish(client, "d-v2")).status is Status.CANCELLED
    assert [execute.ref.generation for execute in agent.executed] == [1, 2]


async def test_a_timeout_passes_while_the_controller_is_down(tmp_path: Path) -> None:
    agent = FakeAgent("host-1", {"a": "v1"}, scripts=[Script(hold=Phase.DOWNLOADING)])
    clock = FakeClock()
    async with (
        running_controller(tmp_path, clock) as controller,
        controller.client() as client,
        agent.linked(controller),
    ):
        await client.execute_deployment(params("v2", "a", timeout=60))
        await agent.until_in(Phase.DOWNLOADING, "a")
    clock.advance(3_600)
    async with running_controller(tmp_path, clock) as controller, controller.client() as client:
        task = (await finish(client, "d-v2")).instances[0]
        assert task.error_code == FailureCode.OUTCOME_UNKNOWN
        agent.go_on()
        async with agent.linked(controller):
            told = await until_one(client, "d-v2", current_version="v2", phase=Phase.DONE)
            assert (told.status, told.error_code) == (Status.FAILED, FailureCode.OUTCOME_UNKNOWN)
            assert "it ended done" in told.error_message


async def test_what_ended_cannot_be_cancelled(controller: RunningController, client: Client) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        await client.execute_deployment(params("v2", "a"))
        await finish(client, "d-v2")
        with pytest.raises(ConflictError, match="completed"):
            await client.cancel_deployment("d-v2")
