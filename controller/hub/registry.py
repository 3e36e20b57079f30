"""Which agents are connected to this controller."""

from collections.abc import Collection, Set
from typing import Protocol

from shared.frames import Cancel, Execute
from shared.logs import get_log

log = get_log(__name__)


class Connection(Protocol):
    """A link whose agent has been welcomed."""

    agent_id: str
    epoch: int

    @property
    def serial(self) -> str:
        """Of the certificate that it stands on."""
        ...

    def revoke(self) -> None:
        """Close the link: its certificate does not count any more."""
        ...

    refused: frozenset[str]
    """Instances that its hello listed and that were refused."""

    def send(self, frame: Execute | Cancel) -> bool:
        """Queue a frame; False if the link is going down."""
        ...

    def acknowledge(self, incarnation: str, upto: int) -> None: ...

    def displace(self) -> None:
        """Close the link: a newer one of the same agent is here."""
        ...

    def renew(self) -> None:
        """Close the link: its agent is to say hello again."""
        ...


class Registry:
    """The newest link of each agent. For the event loop alone."""

    def __init__(self) -> None:
        self._links: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: Connection) -> None:
        """Make `link` its agent's, unless a newer one came first; the other, if any, is closed."""
        before = self._links.get(link.agent_id)
        if before is not None and before.epoch > link.epoch:
            link.displace()
            return
        self._links[link.agent_id] = link
        if before is not None:
            log.info("agent connected again", agent_id=link.agent_id, epoch=link.epoch)
            before.displace()

    def remove(self, link: Connection) -> bool:
        """Forget `link`; False if a newer one has taken its place."""
        if self._links.get(link.agent_id) is not link:
            return False
        del self._links[link.agent_id]
        return True

    def connected(self) -> list[str]:
        """The agents, in no order."""
        return list(self._links)

    def is_connected(self, agent_id: str) -> bool:
        return agent_id in self._links

    def send(self, agent_id: str, frame: Execute | Cancel) -> bool:
        """Queue a frame; False when the agent is not connected here."""
        link = self._links.get(agent_id)
        return link is not None and link.send(frame)

    def renew(self, agent_id: str) -> None:
        """Have an agent that is connected here say hello again: what it owns has changed."""
        link = self._links.get(agent_id)
        if link is not None:
            link.renew()

    def refused(self) -> dict[str, Collection[str]]:
        """By agent, what its newest hello listed and was refused; without those that were refused nothing."""
        return {link.agent_id: link.refused for link in self._links.values() if link.refused}

    def end_revoked(self, serials: Set[str]) -> int:
        """Close the links that stand on one of these certificates; how many."""
        doomed = [link for link in self._links.values() if link.serial in serials] if serials else []
        for link in doomed:
            link.revoke()
        return len(doomed)

    def acknowledge(self, agent_id: str, epoch: int, incarnation: str, upto: int) -> None:
        """Tell an agent what is recorded; a session that is over needs no word, the next one starts from the
        rows."""
        link = self._links.get(agent_id)
        if link is not None and link.epoch == epoch:
            link.acknowledge(incarnation, upto)
