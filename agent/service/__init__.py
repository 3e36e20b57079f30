"""Start, stop and look at one instance's service, by what the host's owner configured and nothing else."""

from typing import Protocol

from agent.observation import Observation, ProcessMark
from agent.service.command import CommandService
from agent.service.output import FileOutput, JournalOutput, NoOutput, ServiceOutput
from agent.service.systemd import SystemdService
from agent.service.unwatched import UnwatchedService
from releasehand.model.status import ServiceState

__all__ = [
    "CommandService",
    "FileOutput",
    "JournalOutput",
    "NoOutput",
    "Observation",
    "ProcessMark",
    "ServiceManager",
    "ServiceOutput",
    "ServiceState",
    "SystemdService",
    "UnwatchedService",
]


class ServiceManager(Protocol):
    """One instance's service. One call at a time; deadlines are the caller's (asyncio.timeout)."""

    @property
    def sees_process(self) -> bool:
        """Whether it can tell one run of the service from the next; if not, no mark is ever seen."""
        ...

    async def restart(self) -> ProcessMark | None:
        """Stop what runs, if anything does, and start what `current` names now; return the new run's mark,
        None if this driver looks at no process.

        Returns when the tool says so, which is no proof that the service came up (agent.check). Cancelling
        leaves no tool of ours behind; whether the service was started is then unknown: observe, or restart
        again. Raises ActivationError with the tool's last output, NotAllowedError where the same process
        runs on.
        """
        ...

    async def stop(self) -> None:
        """Stop the service; one that does not run is fine. Safe to repeat. Raises ActivationError."""
        ...

    async def start_after_boot(self) -> bool:
        """Start what ran when the host went down, if nobody but this driver would; True if it did.

        For the start of the agent: it does nothing for a service that was stopped, or that ended while the
        host was up. Raises ActivationError."""
        ...

    async def observe(self) -> Observation:
        """Look at the service. Never raises for what it finds: UNKNOWN if it could not look."""
        ...
