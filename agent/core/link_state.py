"""How the link to the controller is, as people are told."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self


class LinkCondition(StrEnum):
    """The names are part of what `status --json` answers."""

    CONNECTING = "connecting"  # the agent has just started: no try has ended yet
    ONLINE = "online"
    REFUSED = "refused"  # the controller answers, and takes no link of this agent
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class LinkState:
    """`since` is when `condition` began. `last_heard` is when the controller last said something, as it was
    when `condition` began; None before it ever did. `why` is "" while there is nothing to complain of."""

    condition: LinkCondition
    since: datetime
    controller: str = ""
    last_heard: datetime | None = None
    why: str = ""

    def turned(self, condition: LinkCondition, now: datetime, *, why: str = "") -> Self:
        """The state after something happened; one that stays what it was keeps its `since`."""
        since = self.since if condition is self.condition else now
        return type(self)(condition, since, self.controller, self.last_heard, why)

    def describe(self) -> str:
        """One line, for `systemctl status`."""
        match self.condition:
            case LinkCondition.ONLINE:
                return f"connected to {self.controller}"
            case LinkCondition.CONNECTING:
                return "connecting to the controller"
            case LinkCondition.REFUSED | LinkCondition.OFFLINE:
                return f"no link to the controller: {self.why}"
