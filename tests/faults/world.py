"""A controller, agents and their services as real processes, and an HTTPS origin, in one temporary folder."""

import asyncio
import hashlib
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Final

import aiohttp

from agent.core.record import AttemptRecord
from agent.service.record import read_record
from releasehand import Client
from releasehand.model import DeployParams, DeployStatus, TaskStatus
from tests.fakes.archives import file, tgz
from tests.fakes.certificates import enrol
from tests.fakes.origin import Origin, content, run_origin
from tests.fakes.processes import HERE, MARK, Daemon, end_marked, free_ports
from tests.faults import agent_main, service_program

SERVICE: Final = "web"
STRANGER: Final = "stranger"
"""An agent that has joined, for tests to play."""
API_TOKEN: Final = "the-token-of-the-faults"
_BIN: Final = Path(sys.executable).parent
_READY: Final = "link was established"


@dataclass(frozen=True)
class Package:
    """What the origin serves under `url`."""

    version: str
    url: str
    sha256: str
    content: bytes


@dataclass
class Host:
    """One agent and its one instance, with all that can be seen of it from outside."""

    name: str
    folder: Path
    port: int
    agent: Daemon
    armed: Daemon
    """The same agent by the tests' own entry, which can be told where to kill or hold itself."""

    @property
    def instance(self) -> str:
        return f"{SERVICE}-{self.name}"

    @property
    def root(self) -> Path:
        return self.folder / "srv"

    @property
    def packages(self) -> Path:
        return self.folder / "state" / "packages"

    @property
    def gate(self) -> Path:
        """A gated service is well once this file is there."""
        return self.folder / "gate"

    @property
    def starts(self) -> list[tuple[str, int]]:
        """Version and process of every start of the service, oldest first."""
        path = self.folder / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(version, int(pid)) for version, pid in (line.split() for line in lines)]

    def count_starts(self, version: str) -> int:
        """How often the host really activated `version`."""
        return sum(started == version for started, _ in self.starts)

    @property
    def service_runs(self) -> bool:
        """Whether the process that the agent wrote down last is alive."""
        record = read_record(self.root / ".service.json")
        leader = record.leader() if record else None
        return leader is not None and leader.is_alive()

    @property
    def live(self) -> str:
        """The version in the release that `current` names, "" for none."""
        link = self.root / "current"
        return (link / "release.txt").read_text().split()[0] if link.is_symlink() else ""

    @property
    def leftovers(self) -> list[str]:
        """What finished work has no right to leave behind. Complete packages are the cache's to keep."""
        folders = (self.root / ".staging", self.packages)
        found = [path for folder in folders if folder.exists() for path in folder.iterdir()]
        return [str(path) for path in found if path.suffix != ".package"]

    def attempts(self) -> list[AttemptRecord]:
        """What the journal remembers, oldest first."""
        query = "SELECT record FROM attempt ORDER BY generation, attempt"
        return [AttemptRecord.model_validate_json(text) for (text,) in self._query(query)]

    def unreported(self) -> int:
        """How many reports wait for their acknowledgement."""
        return len(self._query("SELECT n FROM outbox"))

    def _query(self, query: str) -> list[tuple[str]]:
        path = self.folder / "state" / "agent.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    async def ask(self) -> tuple[str, int]:
        """Version and process of the service, as it answers itself. Raises aiohttp.ClientError."""
        timeout = aiohttp.ClientTimeout(total=3)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{HERE}:{self.port}/") as response,
        ):
            version, pid = (await response.text()).split()
            return version.strip('"'), int(pid)


@dataclass
class World:
    """Everything of one test. The controller runs; agents are the test's to start."""

    folder: Path
    controller: Daemon
    origin: Origin
    client: Client
    hub_port: int
    hosts: list[Host] = field(default_factory=list)

    def publish(self, version: str, *, manner: str = "good", weight_bytes: int = 0) -> Package:
        """Put a package at the origin."""
        program = Path(service_program.__file__).read_bytes()
        weight = hashlib.shake_128(version.encode()).digest(weight_bytes)
        data = tgz(
            file("serve.py", program),
            file("release.txt", f"{version} {manner}\n".encode()),
            file("weight.bin", weight),
        )
        url = self.origin.serve(f"/{version}.tar.gz", content(data))
        return Package(version, url, hashlib.sha256(data).hexdigest(), data)

    async def start_agents(self) -> None:
        for host in self.hosts:
            host.agent.start()
        for host in self.hosts:
            await host.agent.ready()

    async def start_controller(self) -> None:
        self.controller.start()
        await self.controller.ready()

    async def deploy(
        self, package: Package, hosts: Sequence[Host], *, budget_s: int = 0, digest: bool = True
    ) -> DeployParams:
        """Have it accepted; returns what was asked for."""
        params = DeployParams(
            service=SERVICE,
            version=package.version,
            instances=[host.instance for host in hosts],
            package_url=package.url,
            package_sha256=package.sha256 if digest else "",
            deploy_id=f"{package.version}-{uuid.uuid4().hex[:12]}",
            timeout=budget_s,
        )
        await self.client.execute_deployment(params)
        return params

    async def deploy_to_the_end(self, package: Package, hosts: Sequence[Host]) -> DeployStatus:
        params = await self.deploy(package, hosts)
        return await self.client.wait_for_deployment(params.deploy_id, timeout_s=40)

    async def task(self, deploy_id: str, host: Host) -> TaskStatus:
        status = await self.client.get_deployment_status(deploy_id)
        return next(one for one in status.instances if one.instance_id == host.instance)


@asynccontextmanager
async def run_world(
    folder: Path, *, hosts: int, hub_via: int = 0, database: str = ""
) -> AsyncIterator[World]:
    """A world with a started controller and `hosts` agents that have joined and are not started yet. With
    `hub_via` agents connect to that port instead of the hub's; without a `database` it has one in a
    file. Every process of it has ended when the block has."""
    ports = free_ports()
    api_port, hub_port = next(ports), next(ports)
    database, pki = database or f"sqlite:///{folder}/controller.db", folder / "pki"
    state_dirs = {f"host-{number}": folder / f"host-{number}" / "state" for number in range(hosts)}
    state_dirs[STRANGER] = folder / STRANGER
    await enrol(database, pki, state_dirs, f"wss://{HERE}:{hub_via or hub_port}", new=True)
    config = folder / "controller.toml"
    key_file = folder / "secrets.key"
    if not database.startswith("sqlite"):  # no controller makes the key that all of a database share
        key_file.write_text(token_hex(32))
        key_file.chmod(0o600)
    config.write_text(_controller_toml(database, key_file, pki, api_port, hub_port))
    controller = Daemon(
        "controller",
        [f"{_BIN}/releasehand-controller", "serve", "--config", str(config)],
        folder=folder,
        ready="controller started",
    )
    api_url = f"http://{HERE}:{api_port}"
    async with run_origin(folder) as origin, Client(api_url, API_TOKEN) as client:
        world = World(folder, controller, origin, client, hub_port)
        for number in range(hosts):
            world.hosts.append(_make_host(world, number, next(ports)))
        try:
            await world.start_controller()
            yield world
        finally:
            daemons = [daemon for host in world.hosts for daemon in (host.agent, host.armed)]
            async with asyncio.TaskGroup() as group:
                for daemon in [*daemons, controller]:
                    group.create_task(daemon.kill())
            await end_marked(folder)


def _make_host(world: World, number: int, port: int) -> Host:
    name = f"host-{number}"
    folder = world.folder / name
    config = folder / "agent.toml"
    agent = [f"{_BIN}/releasehand-agent", "run", "--config", str(config)]
    armed = [sys.executable, str(Path(agent_main.__file__)), "--config", str(config)]
    host = Host(
        name,
        folder,
        port,
        Daemon(name, agent, folder=world.folder, ready=_READY),
        Daemon(f"{name}-armed", armed, folder=world.folder, ready=_READY),
    )
    config.write_text(_agent_toml(world, host))
    return host


def _controller_toml(database: str, key_file: Path, pki: Path, api_port: int, hub_port: int) -> str:
    text = f"""\
database = "{database}"

[api]
host = "{HERE}"
port = {api_port}
tokens = {{ faults = "{API_TOKEN}" }}

[hub]
host = "{HERE}"
port = {hub_port}

[pki]
directory = "{pki}"
"""
    if key_file.exists():
        text += f'\n[secrets]\nkey_file = "{key_file}"\n'
    return text


def _agent_toml(world: World, host: Host) -> str:
    return f"""\
state_dir = "{host.folder}/state"

[packages]
ca_file = "{world.origin.ca_file}"
allowed_hosts = ["localhost"]
allowed_networks = ["127.0.0.0/8"]
reserve_bytes = 0

[[instance]]
id = "{host.instance}"
service = "{SERVICE}"
port = {host.port}
root = "{host.root}"
activate_timeout_s = 15
revert_timeout_s = 15

[instance.driver]
type = "command"
start = ["{sys.executable}", "-I", "-S", "serve.py"]
environment = {{ {MARK} = "{world.folder}", STARTS = "{host.folder}/starts", GATE = "{host.gate}" }}

[instance.check]
type = "http"
url = "http://{HERE}:{host.port}/"
contains = '"{{version}}"'
"""
