"""Start, stop and look at one instance's service, by what the host's owner configured and nothing else."""

from typing import Protocol

from agent.observation import Observation, ProcessMark
from agent.service.command import CommandService
from agent.service.systemd import SystemdService
from releasehand.model.status import ServiceState

__all__ = [
    "CommandService",
    "Observation",
    "ProcessMark",
    "ServiceManager",
    "ServiceState",
    "SystemdService",
]


class ServiceManager(Protocol):
    """One instance's service. One call at a time; deadlines are the caller's (asyncio.timeout)."""

    async def restart(self) -> ProcessMark:
        """Stop what runs and start what `current` names now; return the new run's mark.

        Returns when the tool says so, which is no proof that the service came up (agent.check). Cancelling
        leaves no tool of ours behind; whether the service was started is then unknown: observe, or restart
        again. Raises ActivationError with the tool's last output.
        """
        ...

    async def stop(self) -> None:
        """Stop the service; one that does not run is fine. Safe to repeat. Raises ActivationError."""
        ...

    async def observe(self) -> Observation:
        """Look at the service. Never raises for what it finds: UNKNOWN if it could not look."""
        ...
