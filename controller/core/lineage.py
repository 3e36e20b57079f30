"""Which release an instance had before its present one: decided from its history, never from file times."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from releasehand.model import HistoryAction, HistoryStatus

_GO_BACK: Final = frozenset({HistoryAction.ROLLBACK, HistoryAction.DRIFT})


@dataclass(frozen=True, slots=True)
class Lived:
    """One entry of an instance's history."""

    version: str
    sha256: str
    action: HistoryAction
    status: HistoryStatus


@dataclass(frozen=True, slots=True)
class Release:
    version: str
    sha256: str


def previous_good(history: Iterable[Lived]) -> Release | None:
    """The newest release that was active and good before the present one; None if there was none.

    `history` is oldest first. A rollback takes back what came after its target, so that going back twice goes
    back two steps; what a deployment installs stands on top. An entry without a version says that nothing was
    live."""
    lineage: list[Release] = []
    emptied = False  # nothing is live: the newest of the lineage is the previous one
    for entry in history:
        if entry.status is not HistoryStatus.SUCCESS:
            continue
        emptied = not entry.version
        if emptied or entry.action is HistoryAction.REVERT:
            continue
        release = Release(entry.version, entry.sha256)
        found = _find(lineage, release) if entry.action in _GO_BACK else None
        if found is not None:
            del lineage[found + 1 :]
        elif not lineage or not _same(lineage[-1], release):
            lineage.append(release)
    if emptied:
        return lineage[-1] if lineage else None
    return lineage[-2] if len(lineage) > 1 else None


def _find(lineage: list[Release], release: Release) -> int | None:
    for index in range(len(lineage) - 1, -1, -1):
        if _same(lineage[index], release):
            return index
    return None


def _same(a: Release, b: Release) -> bool:
    return a.version == b.version and (a.sha256 == b.sha256 or not a.sha256 or not b.sha256)
