"""What the hub's registry and the sweeper do when things come in the wrong order or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from controller.bulletin import Bulletin
from controller.core.refusals import StoreUnavailableError
from controller.hub.registry import Registry
from controller.live import Live
from controller.notice import Notices
from controller.store import Changed
from controller.sweeper import Sweeper
from releasehand.model import Presence
from shared.frames import Cancel, Execute
from tests.fakes.clock import FakeClock


@dataclass
class Wire:
    """controller.hub.registry.Connection without a socket."""

    epoch: int
    agent_id: str = "host-1"
    displaced: bool = False
    refused: frozenset[str] = frozenset()
    serial: str = "1"
    revoked: bool = False

    def revoke(self) -> None:
        self.revoked = True

    def send(self, frame: Execute | Cancel) -> bool:
        raise AssertionError(f"nothing sends {frame} here")

    def acknowledge(self, incarnation: str, upto: int) -> None:
        raise AssertionError(f"nothing acknowledges {incarnation} {upto} here")

    def displace(self) -> None:
        self.displaced = True

    def renew(self) -> None:
        raise AssertionError("nothing is moved here")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_newest_session_wins_in_whatever_order_the_links_are_ready(order: tuple[int, int]) -> None:
    registry = Registry()
    links = {epoch: Wire(epoch) for epoch in order}
    for epoch in order:
        registry.add(links[epoch])
    assert (links[1].displaced, links[2].displaced) == (True, False)
    assert not registry.remove(links[1])
    assert registry.is_connected("host-1")


@dataclass
class Outage:
    """controller.sweeper.SweepStore whose database is away while `is_down`."""

    is_down: bool = True
    heard: dict[str, datetime] = field(default_factory=dict)
    judged: dict[str, tuple[int, Presence]] = field(default_factory=dict)

    async def expire(self) -> Changed:
        return Changed()

    async def find_silent(self, before: datetime) -> dict[str, tuple[int, Presence]]:
        return {}

    async def write_live_state(
        self,
        *,
        heartbeats: Mapping[str, datetime],
        presence: Mapping[str, tuple[int, Presence]],
        progress: Any,
    ) -> None:
        if self.is_down:
            raise StoreUnavailableError("cannot use the database: it is away")
        self.heard |= heartbeats
        self.judged |= presence


async def test_what_was_seen_while_the_database_was_away_is_written_when_it_is_back() -> None:
    clock, live, store = FakeClock(), Live(), Outage()
    sweeper = Sweeper(store, live, Notices(Bulletin()), clock)
    early = clock.now()
    live.heard("host-1", early)
    live.heard("host-2", early)
    live.judged("host-2", 1, Presence.SUSPECT)
    with pytest.raises(StoreUnavailableError):
        await sweeper.sweep()
    clock.advance(5)
    live.heard("host-1", clock.now())
    store.is_down = False
    await sweeper.sweep()
    assert store.heard == {"host-1": clock.now(), "host-2": early}
    assert store.judged == {"host-2": (1, Presence.SUSPECT)}
