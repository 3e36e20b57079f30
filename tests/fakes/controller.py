"""A real controller in this process, on free ports, with a database and an authority of its own."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from controller.administration import open_desk
from controller.app import run_controller
from controller.config import ApiSection, ControllerConfig, HubSection, PkiSection
from controller.store import Store
from releasehand import Client
from shared.clock import Clock
from shared.identity_folder import IdentityFolder
from shared.tls import client_context
from tests.fakes.certificates import context_of, enrol

API_TOKEN = "a-token-of-the-scheduler"


@dataclass(frozen=True)
class RunningController:
    """Where it listens, and what one needs to talk to it. `folder` holds `pki/` and `agents/`."""

    api: str
    hub: str
    folder: Path
    database: str

    def client(self) -> Client:
        """To be closed by the caller."""
        return Client(self.api, API_TOKEN)

    async def tls(self, agent_id: str) -> ssl.SSLContext:
        """What this agent connects by; it joins when it is asked for the first time."""
        state_dir = self.state_dir(agent_id)
        if not IdentityFolder(state_dir).certificate_file.exists():
            await enrol(self.database, self.folder / "pki", {agent_id: state_dir}, self.hub)
        return context_of(state_dir)

    def state_dir(self, agent_id: str) -> Path:
        return self.folder / "agents" / agent_id

    def strangers_tls(self) -> ssl.SSLContext:
        """What somebody without a certificate connects by."""
        return client_context(self.folder / "pki" / "ca.pem")


@asynccontextmanager
async def store_of(controller: RunningController) -> AsyncIterator[Store]:
    """The store as an administrator's command opens it, beside the running controller."""
    config = ControllerConfig(
        database=controller.database, pki=PkiSection(directory=controller.folder / "pki")
    )
    async with open_desk(config) as desk:
        yield desk.store


@asynccontextmanager
async def running_controller(folder: Path, clock: Clock, **hub: Any) -> AsyncIterator[RunningController]:
    """Run until the block ends. The same folder again is the same controller after a restart. `hub` is for
    the section of that name."""
    config = ControllerConfig(
        database=f"sqlite:///{folder}/controller.db",
        api=ApiSection(port=0, tokens={"scheduler": SecretStr(API_TOKEN)}),
        hub=HubSection.model_validate({"host": "127.0.0.1", "port": 0} | hub),
        pki=PkiSection(directory=folder / "pki"),
    )
    async with run_controller(config, clock) as addresses:
        yield RunningController(addresses.api, addresses.hub, folder, config.database)
