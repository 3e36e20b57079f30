"""Which release an instance had before its present one: decided from its history, never from file times."""

from collections.abc import Iterable
from dataclasses import dataclass

from releasehand.model import HistoryAction, HistoryStatus


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
    back two steps; what a deployment installs stands on top."""
    lineage: list[Release] = []
    for entry in history:
        if entry.status is not HistoryStatus.SUCCESS or not entry.version:
            continue
        release = Release(entry.version, entry.sha256)
        if (
            entry.action in (HistoryAction.ROLLBACK, HistoryAction.DRIFT)
            and _find(lineage, release) is not None
        ):
            del lineage[(_find(lineage, release) or 0) + 1 :]
        elif entry.action is not HistoryAction.REVERT and (not lineage or not _same(lineage[-1], release)):
            lineage.append(release)
    return lineage[-2] if len(lineage) > 1 else None


def _find(lineage: list[Release], release: Release) -> int | None:
    for index in range(len(lineage) - 1, -1, -1):
        if _same(lineage[index], release):
            return index
    return None


def _same(a: Release, b: Release) -> bool:
    return a.version == b.version and (a.sha256 == b.sha256 or not a.sha256 or not b.sha256)
