"""SIGKILL of the real controller around the commit of a join: the same command on the host ends it well, and
the token counts once."""

import sys
from pathlib import Path

import pytest

from agent.enrolment import UnansweredError
from agent.join import Wish, join
from agent.patience import Patience
from controller.administration import open_desk
from controller.config import ControllerConfig, load_config
from controller.core.lists import Page
from controller.invitation import make_invitations
from controller.pki import open_authorities
from releasehand.model import JoinTokenParams
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from shared.join_token import JoinToken, parse_join_token
from tests.fakes.processes import Daemon, free_ports

PROGRAM = Path(__file__).with_name("controller_main.py")


def configure(folder: Path) -> tuple[ControllerConfig, Path]:
    ports = free_ports()
    file = folder / "controller.toml"
    file.write_text(
        f'database = "sqlite:///{folder}/controller.db"\n'
        f"[api]\nport = {next(ports)}\n"
        'tokens = { scheduler = "a-token-of-the-scheduler" }\n'
        f'[hub]\nhost = "127.0.0.1"\nport = {next(ports)}\nnames = ["127.0.0.1"]\n'
        f'[pki]\ndirectory = "{folder}/pki"\n'
    )
    return load_config(file, {}), file


async def invite(config: ControllerConfig) -> JoinToken:
    async with open_desk(config) as desk:
        shown = open_authorities(config.pki.directory, desk.now).shown
        invitations = make_invitations(config, desk.store, shown)
        made = await invitations.create(JoinTokenParams(host="web-1"), actor=desk.actor)
    return parse_join_token(made.token)


@pytest.mark.parametrize("point", ["begun", "written", "committed"])
async def test_a_controller_killed_around_a_join_gives_the_same_answer_afterwards(
    tmp_path: Path, point: str
) -> None:
    config, file = configure(tmp_path)
    arm, host = tmp_path / "arm", tmp_path / "host"
    argv = [sys.executable, str(PROGRAM), "--config", str(file), "--arm", str(arm)]
    controller = Daemon("controller", argv, folder=tmp_path, ready="controller started")
    token, patience = await invite(config), Patience(SystemClock(), print, limit_s=0)
    wish = Wish(f"wss://127.0.0.1:{config.hub.port}", token)
    try:
        controller.start()
        await controller.ready()
        arm.write_text(f"join:{point} 1")
        with pytest.raises(UnansweredError):
            await join(host, wish, patience)
        await controller.ended()
        key = IdentityFolder(host).pending_key_file.read_bytes()
        controller.start()
        await controller.ready()
        outcome = await join(host, wish, patience)
    finally:
        await controller.kill()
    assert (outcome.fresh, outcome.membership.agent_id) == (True, "web-1")
    assert IdentityFolder(host).key_file.read_bytes() == key
    async with open_desk(config) as desk:
        [listed] = (await desk.store.list_join_tokens(Page())).join_tokens
        assert listed.uses == 1
        assert await desk.store.revoked_serials() == frozenset()
