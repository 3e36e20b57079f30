"""Closes the links of certificates that were revoked, whoever revoked them and on whichever controller."""

from collections.abc import Set
from typing import Final, NoReturn, Protocol

from controller.rounds import repeat
from shared.clock import Clock

LOOK_EVERY_S: Final = 2.0  # 5 s are promised: one look, one slow database, one close


class RevocationStore(Protocol):
    """Where revoked certificates are recorded."""

    async def revoked_serials(self) -> frozenset[str]:
        """Of those that have not ended. Raises StoreUnavailableError."""
        ...


class RevocableLinks(Protocol):
    """The links of this controller."""

    def end_revoked(self, serials: Set[str]) -> int:
        """Close those that stand on one of these certificates; how many."""
        ...


class Revocations:
    """Keep `run` running; `look` may be called beside it, when somebody has just revoked something."""

    def __init__(self, store: RevocationStore, links: RevocableLinks, clock: Clock) -> None:
        self._store, self._links, self._clock = store, links, clock

    async def run(self) -> NoReturn:
        """Look again and again. A session that begins meanwhile is checked by the store itself."""
        await repeat("look for revoked certificates", self.look, self._clock, every_s=LOOK_EVERY_S)

    async def look(self) -> None:
        """Close what has to be closed now. Raises StoreUnavailableError."""
        self._links.end_revoked(await self._store.revoked_serials())
