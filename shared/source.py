"""Where the release of an attempt comes from: it is active, it is kept, it must be fetched, or there is none.

The agent decides by it; the controller says by it beforehand what an agent will do (docs/architecture.md
«A deployment, in one direction»)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from releasehand.model.status import OperationKind, ServiceState

from .frames import Active, Kept

DOWN: Final = frozenset({ServiceState.STOPPED, ServiceState.FAILED})
"""What is active then may not be relied on: it has to be started again."""


class Wish(Protocol):
    """What is to be live, as far as its source depends on it: a command has all of this."""

    @property
    def kind(self) -> OperationKind: ...

    @property
    def version(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def force(self) -> bool: ...


@dataclass(frozen=True)
class AlreadyActive:
    """Nothing to do, nothing to restart."""

    release: Kept


@dataclass(frozen=True)
class UseKept:
    """Complete on this host: activate it."""

    release: Kept


@dataclass(frozen=True)
class Fetch:
    """Download it, or unpack it when it was downloaded."""


@dataclass(frozen=True)
class NoSource:
    """Nothing kept, no URL."""


@dataclass(frozen=True)
class Holding:
    """What the instance has. `kept` is in the order of activation, the newest last; an instance that is
    broken, or whose service is down, has nothing that may be relied on as active."""

    active: Active
    kept: Sequence[Kept]
    broken: bool = False
    down: bool = False

    def active_and_good(self, version: str) -> Kept | None:
        """The active release, if it is of this version, passed its check here and runs."""
        if self.broken or self.down or not self.active.release or self.active.version != version:
            return None
        return next((one for one in self.kept if one.release == self.active.release and one.good), None)


def plan_start(command: Wish, holding: Holding) -> AlreadyActive | UseKept | Fetch | NoSource:
    """Decide before anything is fetched. A deployment without a digest must fetch to know what its URL
    holds."""
    rollback = command.kind is OperationKind.ROLLBACK
    known = bool(command.sha256) or rollback  # whether a release can be told from the command alone
    active = holding.active_and_good(command.version)
    if not command.force and known and active and _same(active, command.sha256):
        return AlreadyActive(active)
    if known and not (command.force and command.url) and (found := _find_kept(command, holding)):
        return UseKept(found)
    return Fetch() if command.url else NoSource()


def plan_fetched(command: Wish, sha256: str, holding: Holding) -> AlreadyActive | UseKept | Fetch:
    """Decide again when the digest of the downloaded package is known; Fetch then means: unpack it."""
    if command.force:
        return Fetch()
    active = holding.active_and_good(command.version)
    if active and _same(active, sha256):
        return AlreadyActive(active)
    for one in reversed(holding.kept):
        if one.version == command.version and one.sha256 == sha256 and one.good is not False:
            return UseKept(one)
    return Fetch()


def _find_kept(command: Wish, holding: Holding) -> Kept | None:
    """A rollback wants a release that was good here; a deployment takes the very bytes it names unless
    they failed."""
    for one in reversed(holding.kept):
        if one.version != command.version or not _same(one, command.sha256):
            continue
        if one.good or (one.good is None and command.kind is OperationKind.DEPLOYMENT):
            return one
    return None


def _same(release: Kept, sha256: str) -> bool:
    return not sha256 or release.sha256 == sha256.lower()
