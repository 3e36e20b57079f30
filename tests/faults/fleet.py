"""A real controller process that is started again whenever it dies, and simulated agents that come back by
themselves and count what they activate."""

import asyncio
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from websockets.exceptions import WebSocketException

from releasehand import Client, ConnectionFailedError, UnavailableError
from releasehand.errors import ApiError
from releasehand.model import DeployStatus, RollbackStatus
from shared.clock import SystemClock
from shared.sealing import obtain_key
from tests.fakes.agent import FakeAgent
from tests.fakes.controller import RunningController
from tests.fakes.processes import HERE, Daemon, free_ports
from tests.fakes.waiting import until
from tests.faults import controller_main

SERVICE: Final = "user"
TOKEN: Final = "the-token-of-the-fleet"
_PAUSE_S: Final = 0.05
_BACK_WITHIN_S: Final = 60.0

ResultT = TypeVar("ResultT")


@dataclass
class Fleet:
    """`kills` counts the deaths of the controller, each by SIGKILL."""

    folder: Path
    controller: Daemon
    arm_file: Path
    address: RunningController
    client: Client
    agents: list[FakeAgent]
    kills: int = 0
    answers: dict[str, tuple[str, Any, dict[str, str]]] = field(default_factory=dict)
    """By operation id: how it was asked for, to be repeated."""

    def arm(self, point: str, nth: int) -> None:
        """Have the running controller die when it passes `point` for the `nth` time from now on."""
        whole = self.arm_file.with_suffix(".new")
        whole.write_text(f"{point} {nth} {new_key()}")  # the key: the same point again counts from one again
        whole.rename(self.arm_file)

    @property
    def is_armed(self) -> bool:
        return self.arm_file.exists()

    def disarm(self) -> None:
        self.arm_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """End the controller now; it is back when this returns."""
        before = self.kills
        self.controller.send(signal.SIGKILL)
        await until(lambda: self.kills > before, within_s=_BACK_WITHIN_S)
        await self.is_back()

    async def is_back(self) -> None:
        """Return when a controller answers."""
        async with asyncio.timeout(_BACK_WITHIN_S):
            while not await self._answers():
                await SystemClock().sleep(_PAUSE_S)

    async def _answers(self) -> bool:
        try:
            await self.client.get_system_health()
        except (ConnectionFailedError, ApiError):
            return False
        return True

    async def ask(
        self, path: str, body: dict[str, Any] | None, key: str = "", *, method: str = "POST"
    ) -> dict[str, Any]:
        """One call as a scheduler makes it: sent again until it is answered. Returns the answer's data."""
        headers = {"Authorization": f"Bearer {TOKEN}"} | ({"Idempotency-Key": key} if key else {})
        async with asyncio.timeout(_BACK_WITHIN_S), aiohttp.ClientSession(headers=headers) as session:
            while True:
                try:
                    async with session.request(method, f"{self.address.api}{path}", json=body) as answer:
                        tree = await answer.json()
                        if answer.status == 200:
                            data: dict[str, Any] = tree["data"]
                            return data
                        assert answer.status == 503, tree
                except aiohttp.ClientError:
                    await self.is_back()

    async def read(self, look: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """What `look` tells, once a controller is there to be asked."""
        async with asyncio.timeout(_BACK_WITHIN_S):
            while True:
                try:
                    return await look()
                except (ConnectionFailedError, UnavailableError):
                    await self.is_back()

    async def deployment(self, deploy_id: str) -> DeployStatus:
        return await self.read(lambda: self.client.get_deployment_status(deploy_id))

    async def rollback(self, rollback_id: str) -> RollbackStatus:
        return await self.read(lambda: self.client.get_rollback_status(rollback_id))

    def activations(self) -> Counter[tuple[str, str]]:
        """How often the hosts have activated something, by operation and instance."""
        return Counter(entry for agent in self.agents for entry in agent.activated)

    async def live(self) -> dict[str, str]:
        """What the controller says each instance runs."""
        versions = await self.read(
            lambda: self.client.get_service_instance_versions(SERVICE, include_stopped=True)
        )
        return {one.instance_id: one.version for one in versions.instances}


@asynccontextmanager
async def run_fleet(
    folder: Path, agents: Iterable[FakeAgent], *, away: Sequence[FakeAgent] = (), database: str = ""
) -> AsyncIterator[Fleet]:
    """All `agents` are connected when the block begins; those `away` were once. What was begun here has ended
    when the block has."""
    ports = free_ports()
    api_port, hub_port = next(ports), next(ports)
    present = list(agents)
    config = folder / "controller.toml"
    database = database or f"sqlite:///{folder}/controller.db"
    key = folder / "secrets.key"
    await asyncio.to_thread(obtain_key, key)  # a shared database needs one that is named
    config.write_text(_toml(database, api_port, hub_port, folder / "pki", key))
    arm = folder / "arm"
    program = [
        sys.executable,
        str(Path(controller_main.__file__)),
        "--config",
        str(config),
        "--arm",
        str(arm),
    ]
    controller = Daemon("controller", program, folder=folder, ready="controller started")
    address = RunningController(f"http://{HERE}:{api_port}", f"wss://{HERE}:{hub_port}", folder, database)
    async with Client(address.api, TOKEN) as client:
        fleet = Fleet(folder, controller, arm, address, client, present)
        try:
            controller.start()
            await controller.ready()
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(_keep_up(fleet))
                for agent in away:
                    async with agent.linked(address):
                        pass
                links = [group.create_task(_stay(agent, fleet)) for agent in present]
                for agent in present:
                    await _until_welcome(agent)
                yield fleet
                for task in (keeper, *links):
                    task.cancel()
        finally:
            await controller.kill()


async def _keep_up(fleet: Fleet) -> None:
    """Start the controller again whenever it has died, as systemd would."""
    while True:
        await until(lambda: not fleet.controller.runs, within_s=3_600)
        assert fleet.controller.exit_code == -signal.SIGKILL, fleet.controller.log()[-3_000:]
        fleet.controller.start()
        fleet.kills += 1


async def _until_welcome(agent: FakeAgent) -> None:
    await agent.until(lambda: agent.welcome)


async def _stay(agent: FakeAgent, fleet: Fleet) -> None:
    """Connect again whenever the link has ended."""
    while True:
        try:
            async with agent.linked(fleet.address):
                await agent.closed.wait()
        except* (OSError, WebSocketException):
            pass
        await SystemClock().sleep(_PAUSE_S)


def make_agent(agent_id: str, instances: Iterable[str]) -> FakeAgent:
    """A host whose instances have nothing installed."""
    return FakeAgent(agent_id, dict.fromkeys(instances, ""), service=SERVICE, beats=True)


def new_key() -> str:
    return uuid.uuid4().hex


def _toml(database: str, api_port: int, hub_port: int, pki: Path, key: Path) -> str:
    return f"""\
database = "{database}"

[api]
host = "{HERE}"
port = {api_port}
tokens = {{ fleet = "{TOKEN}" }}

[hub]
host = "{HERE}"
port = {hub_port}

[pki]
directory = "{pki}"

[secrets]
key_file = "{key}"
"""
