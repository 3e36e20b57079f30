"""What is written down of calls a little later, and together: when tokens were used, and what strangers
tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn, Protocol

from controller.core.allowance import peer_group
from controller.core.audit import Actor, AuditEntry
from controller.core.refusals import StoreUnavailableError
from controller.rounds import repeat
from releasehand.model import ActorKind, AuditAction, AuditOutcome, ErrorType
from shared.clock import Clock
from shared.logs import get_log

WRITE_EVERY_S: Final = 5.0
ONCE_EACH: Final = timedelta(minutes=1)
"""How often the use of one token, and the failures of one address, are written."""
MAX_ADDRESSES: Final = 1_000
"""Addresses with failures that are told apart at a time; further ones are counted together."""
OTHERS: Final = ""

log = get_log(__name__)


class UseStore(Protocol):
    async def note_access(
        self, uses: Mapping[str, tuple[datetime, str]], entries: Sequence[AuditEntry]
    ) -> None:
        """Write the last uses of tokens, by token id with address, and what strangers tried."""
        ...


@dataclass(slots=True)
class _Failures:
    """Of one address: how many are still to be told, and the newest of them."""

    count: int = 0
    request_id: str = ""
    why: str = ""
    told_at: datetime | None = None


class Uses:
    """For the event loop alone. Noting costs no write: calls are not held up, and strangers cannot fill a
    disk."""

    def __init__(self, store: UseStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._used: dict[str, tuple[datetime, str]] = {}
        self._written: dict[str, datetime] = {}
        self._failures: dict[str, _Failures] = {}

    def used(self, token_id: str, address: str) -> None:
        """A call with a token that is in force; "" is one of the configuration."""
        now = self._clock.now()
        if token_id and self._is_due(self._written.get(token_id), now):
            self._used[token_id] = (now, address)

    def failed(self, address: str, request_id: str, why: str) -> None:
        """A call whose token was missing or not good."""
        group = peer_group(address)
        if group not in self._failures and len(self._failures) >= MAX_ADDRESSES:
            group = OTHERS
        failures = self._failures.setdefault(group, _Failures())
        failures.count += 1
        failures.request_id, failures.why = request_id, why

    async def run(self) -> NoReturn:
        """Write from time to time, until cancelled."""
        await repeat("uses", self.write, self._clock, every_s=WRITE_EVERY_S)

    async def finish(self) -> None:
        """At the end of the controller: write what is due, if it can be."""
        try:
            await self.write()
        except StoreUnavailableError as exc:
            log.warning("uses were not written", reason=str(exc))

    async def write(self) -> None:
        """Write what is due. Raises StoreUnavailableError; it is kept for the next time then."""
        now = self._clock.now()
        uses = dict(self._used)
        due = {
            address: failures
            for address, failures in self._failures.items()
            if failures.count and self._is_due(failures.told_at, now)
        }
        counts = {address: failures.count for address, failures in due.items()}
        if uses or due:
            await self._store.note_access(uses, [_entry(now, *one) for one in due.items()])
        for token_id, use in uses.items():
            self._written[token_id] = use[0]
            if self._used.get(token_id) == use:
                del self._used[token_id]
        for address, failures in due.items():
            failures.count -= counts[address]
            failures.told_at = now
        self._forget(now)

    def _forget(self, now: datetime) -> None:
        self._written = {name: at for name, at in self._written.items() if not self._is_due(at, now)}
        self._failures = {
            address: failures
            for address, failures in self._failures.items()
            if failures.count or not self._is_due(failures.told_at, now)
        }

    def _is_due(self, told_at: datetime | None, now: datetime) -> bool:
        return told_at is None or not timedelta(0) <= now - told_at < ONCE_EACH


def _entry(now: datetime, address: str, failures: _Failures) -> AuditEntry:
    return AuditEntry(
        now,
        Actor("", ActorKind.STRANGER, address, failures.request_id),
        AuditAction.AUTHENTICATE,
        AuditOutcome.REFUSED,
        {"attempts": failures.count},
        ErrorType.UNAUTHENTICATED,
        failures.why if address else f"{failures.why}; from several addresses",
    )
