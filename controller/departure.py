"""Lets agents go that ask for it: nothing of them counts any more, and their instances are anybody's."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from controller.core.refusals import StoreUnavailableError
from controller.hub.peer import Peer
from controller.store import Changed
from shared.enrolment import Left
from shared.logs import get_log

log = get_log(__name__)


class DepartureStore(Protocol):
    """Where it is recorded, durable and audited on return."""

    async def leave(
        self, serial: str, agent_id: str, key_sha256: str, *, address: str
    ) -> tuple[int, Changed]: ...


class Departures:
    """For the hub."""

    def __init__(
        self,
        store: DepartureStore,
        tell: Callable[[Changed], None],
        close_revoked: Callable[[], Awaitable[None]],
    ) -> None:
        """`tell` hears what was changed; `close_revoked` ends the links that are left of the agent."""
        self._store, self._tell, self._close_revoked = store, tell, close_revoked

    async def leave(self, peer: Peer, *, address: str) -> Left:
        """Safe to repeat. Raises EnrolmentRefusedError, StoreUnavailableError."""
        released, changed = await self._store.leave(
            peer.serial, peer.agent_id, peer.key_sha256, address=address
        )
        self._tell(changed)
        log.info("agent left", agent_id=peer.agent_id, instances=released, peer=address)
        try:
            await self._close_revoked()
        except StoreUnavailableError as exc:  # it is recorded, and looked for again every two seconds
            log.warning("revoked links are closed later", agent_id=peer.agent_id, reason=str(exc))
        return Left(agent_id=peer.agent_id, released=released)
