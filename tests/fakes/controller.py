"""A real controller in this process, on free ports, with a database and a certificate of its own."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from controller.app import run_controller
from controller.config import ApiSection, ControllerConfig, HubSection
from controller.trial import make_certificate
from releasehand import Client
from shared.clock import Clock
from shared.tls import client_context

API_TOKEN = "a-token-of-the-scheduler"


def agent_token(agent_id: str) -> str:
    return f"a-token-of-{agent_id}"


@dataclass(frozen=True)
class RunningController:
    """Where it listens, and what one needs to talk to it."""

    api: str
    hub: str
    ca_file: Path
    database: str

    def client(self) -> Client:
        """To be closed by the caller."""
        return Client(self.api, API_TOKEN)

    def tls(self) -> ssl.SSLContext | None:
        """None for a hub that speaks without."""
        return client_context(self.ca_file) if self.hub.startswith("wss:") else None


@asynccontextmanager
async def running_controller(
    folder: Path,
    clock: Clock,
    agents: Sequence[str] = ("host-1", "host-2", "host-3"),
    **hub: Any,
) -> AsyncIterator[RunningController]:
    """Run until the block ends. The same folder again is the same controller after a restart. `hub` is for
    the section of that name."""
    if not (folder / "hub.pem").exists():
        make_certificate(folder, "127.0.0.1")
    config = ControllerConfig(
        database=f"sqlite:///{folder}/controller.db",
        api=ApiSection(port=0, tokens={"scheduler": SecretStr(API_TOKEN)}),
        hub=HubSection(
            host="127.0.0.1",
            port=0,
            cert_file=folder / "hub.pem",
            key_file=folder / "hub.key",
            agents={agent_id: SecretStr(agent_token(agent_id)) for agent_id in agents},
            **hub,
        ),
    )
    async with run_controller(config, clock) as addresses:
        yield RunningController(addresses.api, addresses.hub, folder / "ca.pem", config.database)
