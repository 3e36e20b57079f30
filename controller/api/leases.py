"""Calls that stay open for long end with the token that they were made with."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, NoReturn, Protocol

from controller.rounds import repeat
from shared.clock import Clock

from .authentication import unauthenticated

LOOK_EVERY_S: Final = 2.0
"""How long a call may outlive its token."""


class LeaseStore(Protocol):
    """Where it is told which tokens still count."""

    async def find_tokens_in_force(self, token_ids: Collection[str]) -> set[str]:
        """Those of `token_ids` that may still be used."""
        ...


class Leases:
    """For the event loop alone. One look for all that are held, however many calls hold one."""

    def __init__(self, store: LeaseStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._held: dict[str, set[asyncio.Timeout]] = {}

    async def run(self) -> NoReturn:
        """End calls of tokens that have ended, until cancelled."""
        await repeat("leases", self.look, self._clock, every_s=LOOK_EVERY_S)

    async def look(self) -> None:
        """Raises StoreUnavailableError: nothing is ended then, for nothing is known."""
        if not self._held:
            return
        in_force = await self._store.find_tokens_in_force(list(self._held))
        for token_id in self._held.keys() - in_force:
            for lease in self._held[token_id]:
                lease.reschedule(0)  # it is over: the block is cancelled at once

    @asynccontextmanager
    async def hold(self, token_id: str) -> AsyncIterator[None]:
        """Run the block while the token is in force; "" always is. Raises ApiError `unauthenticated` once it
        is not."""
        if not token_id:
            yield
            return
        lease = asyncio.timeout(None)
        try:
            async with lease:
                self._held.setdefault(token_id, set()).add(lease)
                yield
        except TimeoutError:
            if lease.expired():
                raise unauthenticated("the token was revoked or expired during this call") from None
            raise
        finally:
            self._let_go(token_id, lease)

    def _let_go(self, token_id: str, lease: asyncio.Timeout) -> None:
        leases = self._held.get(token_id, set())
        leases.discard(lease)
        if not leases:
            self._held.pop(token_id, None)
