"""Agents that leave a real controller, over TLS: what counts no more, what stays, and what is left alone."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli.app import app
from agent.config import AgentConfig, CommandDriver, InstanceSection
from agent.daemon import run_agent
from agent.enrolment import RefusedError, ask_to_leave
from agent.leave import Departure, LeaveError, leave
from agent.state_dir import hold_state_dir
from controller.core.audit import Actor, AuditFilter
from controller.core.lists import Page
from releasehand import Client, NotFoundError
from releasehand.model import ActorKind, AuditAction, DeployParams, FailureCode, Status
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from tests.fakes.certificates import enrol
from tests.fakes.controller import RunningController, running_controller, store_of
from tests.fakes.waiting import until_told

AGENT = "host-1"


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[RunningController]:
    async with running_controller(tmp_path, SystemClock()) as controller:
        await controller.tls(AGENT)
        yield controller


async def audited(controller: RunningController) -> list[tuple[str, str, str]]:
    """Who left, outcome and code, oldest first."""
    async with store_of(controller) as store:
        records = (await store.list_audit(AuditFilter(action=AuditAction.LEAVE), Page())).records
    return [(one.actor, one.outcome.value, one.code) for one in reversed(records)]


def identity_of(controller: RunningController) -> list[str]:
    folder = IdentityFolder(controller.state_dir(AGENT)).path
    return sorted(path.name for path in folder.iterdir())


async def go(controller: RunningController, *, offline: bool = False) -> Departure:
    return await leave(controller.state_dir(AGENT), SystemClock(), offline=offline)


def config_of(controller: RunningController) -> AgentConfig:
    driver = CommandDriver(type="command", start=("true",))
    section = InstanceSection(id="web-1", service="web", root=controller.folder / "srv", driver=driver)
    return AgentConfig(state_dir=controller.state_dir(AGENT), instance=(section,))


@asynccontextmanager
async def agent_at_work(controller: RunningController, client: Client) -> AsyncIterator[None]:
    """The real agent, until the block ends."""

    async def list_instances() -> bool:
        try:
            return bool((await client.get_service_instances("web")).instances)
        except NotFoundError:
            return False

    async with asyncio.TaskGroup() as group:
        agent = group.create_task(run_agent(config_of(controller)))
        await until_told(list_instances, bool)
        yield
        agent.cancel()


async def test_an_agent_that_left_counts_no_more_and_may_join_again(controller: RunningController) -> None:
    async with controller.client() as client:
        async with agent_at_work(controller, client):
            pass
        await client.execute_deployment(
            DeployParams(
                service="web",
                version="v1",
                instances=["web-1"],
                package_url="https://packages.example.com/v1.tar.gz",
                deploy_id="d-1",
            )
        )
        departure = await go(controller)
        assert departure == Departure(True, AGENT, controller.hub, 1)
        assert identity_of(controller) == []
        assert (controller.state_dir(AGENT) / "agent.db").exists()
        with pytest.raises(NotFoundError):
            await client.get_service_instances("web")
        ended = await client.get_deployment_status("d-1")
        assert ended.status is Status.FAILED
        assert [one.error_code for one in ended.instances] == [FailureCode.INSTANCE_RETIRED]
        assert "its agent left" in (ended.instances[0].error_message or "")
        assert await audited(controller) == [(AGENT, "accepted", "")]
        assert await go(controller) == Departure(joined=False)
        places = {AGENT: controller.state_dir(AGENT)}
        await enrol(controller.database, controller.folder / "pki", places, controller.hub)
        async with agent_at_work(controller, client):
            pass


async def test_an_answer_that_was_lost_is_given_again(controller: RunningController) -> None:
    folder = IdentityFolder(controller.state_dir(AGENT)).path
    await asyncio.to_thread(shutil.copytree, folder, controller.folder / "kept")
    await go(controller)
    await asyncio.to_thread(shutil.copytree, controller.folder / "kept", folder, dirs_exist_ok=True)
    assert (await go(controller)).released == 0
    assert identity_of(controller) == []
    assert await audited(controller) == [(AGENT, "accepted", "")]


@pytest.mark.parametrize("gone", range(1, 4))
async def test_a_kill_between_any_two_files_is_mended_by_the_same_command(
    controller: RunningController, gone: int
) -> None:
    folder = IdentityFolder(controller.state_dir(AGENT))
    files = [folder.certificate_file, folder.key_file, folder.url_file, folder.authority_file]
    kept = {file: file.read_bytes() for file in files[gone:]}
    await go(controller)
    for file, content in kept.items():
        file.write_bytes(content)
    assert await go(controller) == Departure(joined=False)
    assert identity_of(controller) == []


async def test_a_host_leaves_its_controller_where_that_is_now(controller: RunningController) -> None:
    await controller.tls(AGENT)
    IdentityFolder(controller.state_dir(AGENT)).url_file.write_text("wss://127.0.0.1:1\n")
    departure = await leave(controller.state_dir(AGENT), SystemClock(), url=controller.hub)
    assert departure == Departure(True, AGENT, controller.hub, 0)
    assert identity_of(controller) == []


async def test_who_was_shut_out_releases_nothing(controller: RunningController) -> None:
    async with controller.client() as client:
        async with agent_at_work(controller, client):
            pass
        async with store_of(controller) as store:
            await store.revoke_agent(AGENT, "", actor=Actor("ops", ActorKind.LOCAL))
        with pytest.raises(LeaveError, match=r"was revoked .* --offline") as refused:
            await go(controller)
        assert "certificate_revoked" in str(refused.value)
        assert len((await client.get_service_instances("web")).instances) == 1
    assert await audited(controller) == [(AGENT, "refused", "certificate_revoked")]
    assert "agent.pem" in identity_of(controller)


async def test_nobody_leaves_without_a_certificate(controller: RunningController) -> None:
    with pytest.raises(RefusedError, match="showed no certificate"):
        await ask_to_leave(controller.hub, controller.strangers_tls())


async def test_a_host_whose_controller_is_away_stays_what_it_is(tmp_path: Path) -> None:
    async with running_controller(tmp_path, SystemClock()) as controller:
        await controller.tls(AGENT)
    before = identity_of(controller)
    with pytest.raises(LeaveError, match=r"Connect call failed.* Nothing was changed: try again"):
        await go(controller)
    assert identity_of(controller) == before
    assert await go(controller, offline=True) == Departure(True, AGENT, controller.hub)
    assert identity_of(controller) == []


async def test_no_agent_leaves_while_it_runs(controller: RunningController) -> None:
    state_dir = controller.state_dir(AGENT)
    with (
        hold_state_dir(state_dir),
        pytest.raises(LeaveError, match=r"the agent runs \(process \d+\); stop it first: systemctl disable"),
    ):
        await go(controller, offline=True)
    assert "agent.pem" in identity_of(controller)


async def test_an_identity_that_cannot_be_read_is_forgotten_when_that_is_asked(
    controller: RunningController,
) -> None:
    IdentityFolder(controller.state_dir(AGENT)).certificate_file.write_text("nothing")
    with pytest.raises(LeaveError, match=r"no certificate in PEM form.*--offline"):
        await go(controller)
    assert await go(controller, offline=True) == Departure(joined=True)
    assert identity_of(controller) == []


# as people see it


async def run(*words: str) -> Result:
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["leave", *words]))


async def test_people_are_told_what_was_done_and_what_is_left_to_do(controller: RunningController) -> None:
    state_dir = controller.state_dir(AGENT)
    result = await run("--state-dir", str(state_dir))
    assert (result.exit_code, result.output) == (
        0,
        f"agent {AGENT} left {controller.hub}: its certificates are revoked, 0 instances released\n",
    )
    result = await run("--state-dir", str(state_dir))
    assert (result.exit_code, result.output) == (
        0,
        "this host has joined no controller: there is nothing to leave\n",
    )
    places = {AGENT: state_dir}
    await enrol(controller.database, controller.folder / "pki", places, controller.hub)
    result = await run("--state-dir", str(state_dir), "--offline")
    assert result.exit_code == 0
    assert f"releasehand-controller agent revoke {AGENT}, then DELETE /v1/instance/INSTANCE" in result.output
    with hold_state_dir(state_dir):
        result = await run("--state-dir", str(state_dir))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "systemctl disable --now releasehand-agent" in result.stderr
