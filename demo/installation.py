"""The demo's world: a controller, a package origin and the agents, each a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.finish import finish
from controller.core.audit import Actor
from controller.local_agents import enrol_here
from controller.pki import HubCertificate, open_authority
from controller.sealing import load_keyring
from controller.store import open_store
from demo.layout import CALLER, HERE, Layout, write_configuration
from demo.processes import Daemon, end_marked
from releasehand.model import ActorKind
from shared.clock import Clock

_BIN: Final = Path(sys.executable).parent
_CONTROLLER_READY: Final = "controller started"
_ORIGIN_READY: Final = "Running on"
_AGENT_UP: Final = "agent is ready"
_AGENT_LINKED: Final = "link was established"


class Installation:
    """All daemons of one demo. Each can be stopped and started by itself."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self.layout, self._clock = layout, clock
        self.controller = self._daemon(
            "controller", f"{_BIN}/releasehand-controller", "serve", "--config", str(layout.controller_file)
        )
        self.origin = self._daemon(
            "origin",
            *(sys.executable, "-m", "demo.origin"),
            *(str(layout.packages), str(layout.authority("origin")), str(layout.origin_port)),
        )
        self.agents = {
            host: self._daemon(
                host, f"{_BIN}/releasehand-agent", "run", "--config", str(layout.agent_file(host))
            )
            for host in layout.hosts
        }

    @property
    def daemons(self) -> list[Daemon]:
        """All of them, in the order in which they are stopped."""
        return [*self.agents.values(), self.controller, self.origin]

    def check(self) -> None:
        """Raises DaemonError for a daemon that ended by itself: that explains whatever failed."""
        for daemon in self.daemons:
            daemon.check()

    async def start_controller(self) -> None:
        """Return when it listens. Raises DaemonError."""
        self.controller.start()
        await self.controller.wait_for(_CONTROLLER_READY)

    async def start_origin(self) -> None:
        """Return when it listens. Raises DaemonError."""
        self.origin.start()
        await self.origin.wait_for(_ORIGIN_READY)

    async def start_agent(self, host: str) -> None:
        """Return when it is linked to the controller. Raises DaemonError."""
        await self.restart_agent(host)
        await self.agents[host].wait_for(_AGENT_LINKED)

    async def restart_agent(self, host: str) -> None:
        """Return when it is back at work; the link may come later. Raises DaemonError."""
        self.agents[host].start()
        await self.agents[host].wait_for(_AGENT_UP)

    async def stop(self) -> None:
        """End every process of the demo, services too. Safe to repeat."""
        async with asyncio.TaskGroup() as group:
            for daemon in self.daemons:
                group.create_task(daemon.stop())
        await end_marked(self.layout.folder, self._clock)

    def _daemon(self, name: str, *argv: str) -> Daemon:
        log_file = self.layout.logs / f"{name}.log"
        return Daemon(name, argv, folder=self.layout.folder, log_file=log_file, clock=self._clock)


async def _issue_certificates(layout: Layout, clock: Clock) -> None:
    """The agents join before anything runs; the origin has an authority of its own."""
    hub, origin = (open_authority(layout.authority(whose), clock.now()) for whose in ("hub", "origin"))
    HubCertificate(origin, layout.authority("origin"), [HERE], clock).open()
    store = await open_store(layout.database, clock, load_keyring(layout.database, None, ()))
    try:
        await enrol_here(
            store,
            hub,
            {host: layout.state_dir(host) for host in layout.hosts},
            url=layout.hub_url,
            life=timedelta(days=1),
            actor=Actor(CALLER, ActorKind.LOCAL),
        )
    finally:
        await store.close()


@asynccontextmanager
async def install(layout: Layout, clock: Clock) -> AsyncIterator[Installation]:
    """Run everything until the block ends, then end it. Raises DaemonError if one does not start."""
    write_configuration(layout)
    await _issue_certificates(layout, clock)
    installation = Installation(layout, clock)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(installation.start_controller())
            group.create_task(installation.start_origin())
        async with asyncio.TaskGroup() as group:
            for host in layout.hosts:
                group.create_task(installation.start_agent(host))
        yield installation
    finally:
        await finish(installation.stop())
