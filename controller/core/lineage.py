"""Which release an instance had before its present one: decided from its history, never from file times."""

from collections.abc import Iterable, Sequence
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
    entries = list(history)
    lineage = [_release(entries[index]) for index in _find_lineage(entries)]
    live = _newest_live(entries)
    if live is not None and not entries[live].version:
        return lineage[-1] if lineage else None  # nothing is live: the newest of the lineage is the previous
    return lineage[-2] if len(lineage) > 1 else None


def find_needed(history: Sequence[Lived], keep: int) -> set[int]:
    """The places in a history, oldest first, by which whatever follows still finds the same live version and
    the newest `keep` releases of the lineage; with `keep` as long as the lineage, all of it."""
    live = _newest_live(history)
    return {*_find_lineage(history)[-keep:], *([] if live is None else [live])}


def _find_lineage(history: Sequence[Lived]) -> list[int]:
    """The places of the entries by which each release of the lineage came there, oldest first."""
    lineage: list[int] = []
    for index, entry in enumerate(history):
        if entry.status is not HistoryStatus.SUCCESS or not entry.version:
            continue
        if entry.action is HistoryAction.REVERT:
            continue
        lowest = 0 if entry.action in _GO_BACK else max(0, len(lineage) - 1)
        places = range(len(lineage) - 1, lowest - 1, -1)
        same = (n for n in places if is_same(_release(history[lineage[n]]), _release(entry)))
        found = next(same, None)
        if found is None:
            lineage.append(index)
        else:
            del lineage[found + 1 :]
    return lineage


def _newest_live(history: Sequence[Lived]) -> int | None:
    """The place of the newest entry that says what is live."""
    places = (i for i in range(len(history) - 1, -1, -1) if history[i].status is HistoryStatus.SUCCESS)
    return next(places, None)


def _release(entry: Lived) -> Release:
    return Release(entry.version, entry.sha256)


def is_same(a: Release, b: Release) -> bool:
    """A digest that nobody knows is no difference."""
    return a.version == b.version and (a.sha256 == b.sha256 or not a.sha256 or not b.sha256)
