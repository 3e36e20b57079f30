"""What becomes of an agent's certificate between a real controller and a real uplink: renewed in time,
renewed when it has ended, revoked, given anew, signed by another authority."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from agent.identity import Expected, read_membership
from agent.join import Wish, join
from agent.patience import Patience
from agent.pulse import Pulse
from agent.renewal import Renewals
from agent.uplink import HostFacts, Uplink
from controller.administration import Desk, open_desk
from controller.config import ControllerConfig, PkiSection
from controller.core.audit import AuditFilter
from controller.core.lists import AgentFilter, Page
from controller.invitation import Invitations
from controller.local_agents import enrol_here
from controller.pki import begin_rotation, finish_rotation, open_authority, read_hub_authority
from releasehand.model import AuditAction, JoinTokenParams, Presence
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from shared.join_token import JoinToken, parse_join_token
from tests.fakes.controller import RunningController, running_controller
from tests.fakes.host import Host
from tests.fakes.waiting import until, until_told

MONTH: Final = timedelta(days=30)
JITTER: Final = 0.05  # pauses of 0.2 s, and of 5 s for who was shut out


class LateClock(SystemClock):
    """A machine's clock some time ago."""

    def __init__(self, ago: timedelta) -> None:
        super().__init__()
        self._ago = ago

    def now(self) -> datetime:
        return super().now() - self._ago


def config_of(controller: RunningController) -> ControllerConfig:
    return ControllerConfig(database=controller.database, pki=PkiSection(directory=controller.folder / "pki"))


@asynccontextmanager
async def desk_of(controller: RunningController, ago: timedelta = timedelta()) -> AsyncIterator[Desk]:
    async with open_desk(config_of(controller), LateClock(ago)) as desk:
        yield desk


async def enrol(controller: RunningController, state_dir: Path, *, ago: timedelta) -> None:
    """An agent that was given its certificate some time ago."""
    async with desk_of(controller, ago) as desk:
        authority = open_authority(controller.folder / "pki", SystemClock().now())
        await enrol_here(
            desk.store, authority, {"web-1": state_dir}, url=controller.hub, life=MONTH, actor=desk.actor
        )


async def invite(controller: RunningController) -> JoinToken:
    async with desk_of(controller) as desk:
        authority = read_hub_authority(controller.folder / "pki", desk.now)
        invitations = Invitations(desk.store, key_hash=authority.key_hash, url=controller.hub)
        made = await invitations.create(JoinTokenParams(host="web-1"), actor=desk.actor)
    return parse_join_token(made.token)


async def audited(controller: RunningController, action: AuditAction) -> list[str]:
    async with desk_of(controller) as desk:
        records = (await desk.store.list_audit(AuditFilter(action=action), Page())).records
    return [f"{one.outcome}{one.code and ' '}{one.code}" for one in reversed(records)]


async def presence(controller: RunningController) -> Presence | None:
    async with desk_of(controller) as desk:
        found = (await desk.store.list_agents(AgentFilter(), Page())).agents
    return found[0].status if found else None


class Told(logging.Handler):
    """Why there was no link."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reasons.append(str(getattr(record, "fields", {}).get("reason", "")))


@asynccontextmanager
async def agent_at_work(state_dir: Path) -> AsyncIterator[Told]:
    """A real uplink by the machine's own clock; what it told."""
    host, clock, told = Host(state_dir), SystemClock(), Told()
    logger = logging.getLogger("agent.uplink")
    logger.addHandler(told)
    try:
        async with host.boot():
            pulse = Pulse(host.executor, disk=state_dir, position=lambda: host.journal.last_n, clock=clock)
            uplink = Uplink(
                partial(read_membership, state_dir, Expected()),
                HostFacts("0", "host", "boot-1", {}),
                executor=host.executor,
                journal=host.journal,
                pulse=pulse,
                clock=clock,
                news=host.news,
                jitter=lambda: JITTER,
                renewals=Renewals(state_dir, clock, lambda: 0.0),
            )
            async with asyncio.TaskGroup() as group:
                work = group.create_task(uplink.run())
                yield told
                work.cancel()
    finally:
        logger.removeHandler(told)


def ends_at(state_dir: Path) -> datetime:
    return read_membership(state_dir, Expected()).ends_at


async def until_online(controller: RunningController) -> None:
    await until_told(lambda: presence(controller), lambda found: found is Presence.ONLINE)


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[RunningController]:
    async with running_controller(tmp_path / "controller", SystemClock()) as controller:
        yield controller


async def test_an_agent_renews_in_the_second_half_of_its_certificates_life_on_the_same_link(
    controller: RunningController, tmp_path: Path
) -> None:
    state_dir = tmp_path / "agent"
    await enrol(controller, state_dir, ago=timedelta(days=15, minutes=1))
    before, key = ends_at(state_dir), IdentityFolder(state_dir).key_file.read_bytes()
    async with agent_at_work(state_dir) as told:
        await until(lambda: ends_at(state_dir) > before)
        await until_online(controller)
    assert ends_at(state_dir) - before > timedelta(days=15)
    assert IdentityFolder(state_dir).key_file.read_bytes() == key
    assert told.reasons == []
    assert await audited(controller, AuditAction.RENEW_CERTIFICATE) == ["accepted"]


async def test_an_agent_whose_certificate_has_ended_renews_it_and_connects(
    controller: RunningController, tmp_path: Path
) -> None:
    state_dir = tmp_path / "agent"
    await enrol(controller, state_dir, ago=timedelta(days=100))
    async with agent_at_work(state_dir):
        await until_online(controller)
    assert ends_at(state_dir) > SystemClock().now() + timedelta(days=29)
    assert await audited(controller, AuditAction.RENEW_CERTIFICATE) == ["accepted"]


async def test_a_certificate_that_ended_too_long_ago_is_not_renewed_and_the_agent_says_what_to_do(
    controller: RunningController, tmp_path: Path
) -> None:
    state_dir = tmp_path / "agent"
    await enrol(controller, state_dir, ago=timedelta(days=121))
    async with agent_at_work(state_dir) as told:
        await until(lambda: told.reasons)
    assert "more than 90 days ago: let the host join again" in told.reasons[0]
    assert await audited(controller, AuditAction.RENEW_CERTIFICATE) == ["refused certificate_expired"]


async def test_the_link_of_a_revoked_agent_is_closed_within_five_seconds_and_it_comes_back_by_joining_again(
    controller: RunningController, tmp_path: Path
) -> None:
    """Revoked by a command of another process: nobody tells the running controller."""
    state_dir = tmp_path / "agent"
    await enrol(controller, state_dir, ago=timedelta())
    async with agent_at_work(state_dir) as told:
        await until_online(controller)
        async with desk_of(controller) as desk:
            await desk.store.revoke_agent("web-1", "a test", actor=desk.actor)
        await until(lambda: told.reasons, within_s=5)
        assert told.reasons == ["the link was closed: the agent's certificate was revoked"]
        await until(lambda: len(told.reasons) == 2)
        assert "if the host is to come back, let it join again (certificate_revoked)" in told.reasons[1]
        await until_told(lambda: presence(controller), lambda found: found is not Presence.ONLINE)
        wish = Wish(controller.hub, await invite(controller), again=True)
        await join(state_dir, wish, Patience(SystemClock(), print))
        await until_online(controller)
    assert await audited(controller, AuditAction.REVOKE_AGENT) == ["accepted"]


async def test_a_revoked_certificate_is_not_renewed_when_it_has_ended(
    controller: RunningController, tmp_path: Path
) -> None:
    state_dir = tmp_path / "agent"
    await enrol(controller, state_dir, ago=timedelta(days=31))
    async with desk_of(controller) as desk:
        await desk.store.revoke_agent("web-1", "", actor=desk.actor)
    async with agent_at_work(state_dir) as told:
        await until(lambda: told.reasons)
    assert "certificate_revoked" in told.reasons[0]
    assert await audited(controller, AuditAction.RENEW_CERTIFICATE) == ["refused certificate_revoked"]


async def test_another_authority_takes_the_place_of_the_first_while_agents_stay(tmp_path: Path) -> None:
    state_dir, home = tmp_path / "agent", tmp_path / "controller"
    folder, clock = IdentityFolder(state_dir), SystemClock()
    async with running_controller(home, clock) as controller:
        await enrol(controller, state_dir, ago=timedelta())
    old = folder.authority_file.read_bytes()
    new = begin_rotation(home / "pki", clock.now())
    async with running_controller(home, clock) as controller:
        folder.url_file.write_text(controller.hub)  # on another port
        async with agent_at_work(state_dir):
            await until(lambda: folder.authority_file.read_bytes() == new.pem)
            await until_online(controller)
        fresh = tmp_path / "fresh"
        wish = Wish(controller.hub, await invite(controller))
        await join(fresh, wish, Patience(SystemClock(), print))  # meanwhile hosts join as ever
        assert IdentityFolder(fresh).authority_file.read_bytes() == new.pem
    last = finish_rotation(home / "pki", clock.now())
    async with running_controller(home, clock) as controller:
        IdentityFolder(fresh).url_file.write_text(controller.hub)
        async with agent_at_work(fresh):
            await until(lambda: IdentityFolder(fresh).authority_file.read_bytes() == last.pem)
            await until_online(controller)
    assert old not in (last.pem, new.pem)
