"""Agents connected here that were refused instances of others, and are given them once those are free."""

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from controller.rounds import repeat
from shared.clock import Clock

EVERY_S: Final = 5.0


class ClaimStore(Protocol):
    """Where it stands whose an instance is."""

    async def find_claimants(self, refused: Mapping[str, Collection[str]]) -> list[str]:
        """Which of these agents would be given one of the instances that they were refused."""
        ...


class AgentLinks(Protocol):
    """The agents connected to this controller."""

    def refused(self) -> Mapping[str, Collection[str]]:
        """By agent, instances that its hello listed and that it was refused."""
        ...

    def renew(self, agent_id: str) -> None:
        """Have it say hello again."""
        ...


class Claimants:
    """One for each controller. What frees an instance may happen at any of them, so the rows are asked."""

    def __init__(self, store: ClaimStore, links: AgentLinks, clock: Clock) -> None:
        self._store, self._links, self._clock = store, links, clock

    async def run(self) -> None:
        """Work until cancelled."""
        await repeat("giving out free instances", self.look, self._clock, every_s=EVERY_S)

    async def look(self) -> None:
        """One round. Safe to repeat."""
        refused = self._links.refused()
        if refused:
            for agent_id in await self._store.find_claimants(refused):
                self._links.renew(agent_id)
