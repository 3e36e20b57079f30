"""`releasehand-controller try`: a controller with embedded defaults, in a folder that goes away with it."""

import asyncio
import secrets
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from controller.app import run_controller, until_told
from controller.config import ApiSection, ControllerConfig, HubSection, PkiSection
from controller.core.audit import Actor
from controller.keyring import open_keyring
from controller.local_agents import enrol_here
from controller.pki import read_authority
from controller.store import Store
from controller.store.engine import Database
from releasehand.model import ActorKind
from shared.clock import SystemClock

CALLER: Final = "you"
AGENT: Final = "my-host"


async def try_out(api_port: int, hub_port: int) -> None:
    """Run until SIGTERM or SIGINT, then remove everything. Raises OSError when a port is taken."""
    folder = Path(tempfile.mkdtemp(prefix="releasehand-try-"))
    try:
        api_token = secrets.token_urlsafe(24)
        config = ControllerConfig(
            database=f"sqlite:///{folder}/controller.db",
            api=ApiSection(port=api_port, tokens={CALLER: SecretStr(api_token)}),
            hub=HubSection(host="127.0.0.1", port=hub_port),
            pki=PkiSection(directory=folder / "pki"),
        )
        told = until_told(asyncio.get_running_loop())
        async with run_controller(config, SystemClock()) as addresses:
            agent_file = folder / "agent.toml"
            agent_file.write_text(_agent_toml(folder))
            await _take_in(config, folder / "agent", addresses.hub)
            sys.stdout.write(describe(addresses.api, api_token, agent_file))
            sys.stdout.flush()
            await told.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _take_in(config: ControllerConfig, state_dir: Path, hub: str) -> None:
    """Have the agent join without a join token: it is on this machine."""
    clock = SystemClock()
    store = Store(Database(config.database), clock, open_keyring(config))
    try:
        await enrol_here(
            store,
            read_authority(config.pki.directory, clock.now()),
            {AGENT: state_dir},
            url=hub,
            life=timedelta(seconds=config.pki.agent_certificate_s),
            actor=Actor(CALLER, ActorKind.LOCAL),
        )
    finally:
        await store.close()


def describe(api: str, token: str, agent_file: Path) -> str:
    """What a person at the terminal is told, with the commands to go on."""
    commands = Path(sys.executable).parent
    return f"""
A controller to try things with. It forgets everything when you stop it with Ctrl-C.

  address   {api}         (what it can do: {api}/openapi.json)
  token     {token}

In another terminal:

  export RELEASEHAND_URL={api} RELEASEHAND_TOKEN={token}
  curl -H "Authorization: Bearer $RELEASEHAND_TOKEN" $RELEASEHAND_URL/v1/system/health

An agent for it, with one instance "web-1" of a service "web" on port 8081:

  {commands}/releasehand-agent run --config {agent_file}
  {commands}/releasehand versions web --include-stopped

The service hands out the files of its package on http://127.0.0.1:8081; its check wants to read the version
there. Packages may come from HTTPS servers with this certificate: {agent_file.parent}/pki/hub.pem, hub.key
How to make and deploy one: docs/tutorial/first-steps.md
"""


def _agent_toml(folder: Path) -> str:
    return f"""\
state_dir = "{folder}/agent"

[packages]  # to try things, packages may come from this very machine and from the network around it
ca_file = "{folder}/pki/ca.pem"
allow_private = true
allowed_networks = ["127.0.0.0/8", "::1/128"]

[[instance]]
id = "web-1"
service = "web"
port = 8081
root = "{folder}/srv/web-1"
activate_timeout_s = 20
check = {{ type = "http", url = "http://127.0.0.1:8081/", contains = "{{version}}" }}

[instance.driver]
type = "command"
start = ["{sys.executable}", "-m", "http.server", "--bind", "127.0.0.1", "8081"]
"""
