"""Services that nothing here starts or looks at: only the link is moved, and the result says so."""

from typing import Final

from agent.observation import Observation, ProcessMark
from releasehand.model.status import ServiceState


class UnwatchedService:
    """For files that somebody else serves or picks up. A ServiceManager (agent.service)."""

    sees_process: Final = False

    async def restart(self) -> ProcessMark | None:
        """See ServiceManager. Nothing is restarted."""
        return None

    async def stop(self) -> None:
        """See ServiceManager. Nothing is stopped."""

    async def start_after_boot(self) -> bool:
        """See ServiceManager."""
        return False

    async def observe(self) -> Observation:
        """See ServiceManager. There is nothing to complain of, so no detail either."""
        return Observation(ServiceState.UNKNOWN, None, "")
