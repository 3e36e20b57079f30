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


class HistoryTooShortError(Exception):
    """What came before the part that was read may matter: read all of it."""


def previous_good(history: Iterable[Lived], *, complete: bool = True) -> Release | None:
    """The newest release that was active and good before the present one; None if there was none.

    `history` is oldest first. A rollback takes back what came after its target, so that going back twice goes
    back two steps; what a deployment installs stands on top. An entry without a version says that nothing was
    live. Without `complete` it is only the newest part; raises HistoryTooShortError where that does not
    tell."""
    entries = list(history)
    lineage = _find_lineage(entries, complete=complete)
    live = _newest_live(entries)
    depth = 1 if live is not None and not entries[live].version else 2  # nothing is live: the newest of all
    place = lineage[-depth] if len(lineage) >= depth else None
    if place is None and not complete:
        raise HistoryTooShortError
    return None if place is None else _release(entries[place])


def find_needed(history: Sequence[Lived], keep: int) -> set[int]:
    """The places in a history, oldest first, by which whatever follows still finds the same live version and
    the newest `keep` releases of the lineage; with `keep` as long as the lineage, all of it."""
    live = _newest_live(history)
    places = {*_find_lineage(history)[-keep:], live}
    return {place for place in places if place is not None}


def _find_lineage(history: Sequence[Lived], *, complete: bool = True) -> list[int | None]:
    """The places of the entries by which each release of the lineage came there, oldest first. Without
    `complete`, None stands for what lies below them and nobody looked at."""
    lineage: list[int | None] = [] if complete else [None]
    for index, entry in enumerate(history):
        if entry.status is not HistoryStatus.SUCCESS or not entry.version:
            continue
        if entry.action is HistoryAction.REVERT:
            continue
        goes_back = entry.action in _GO_BACK
        found = _find(history, lineage if goes_back else lineage[-1:], _release(entry))
        if found is not None:
            del lineage[lineage.index(found) + 1 :]
        elif goes_back and not complete:
            lineage = [None, index]  # it lies below what is known, or is new: nobody can tell
        else:
            lineage.append(index)
    return lineage


def _find(history: Sequence[Lived], lineage: Sequence[int | None], release: Release) -> int | None:
    """The place of the newest of `lineage` that is this release."""
    known = (place for place in reversed(lineage) if place is not None)
    return next((place for place in known if is_same(_release(history[place]), release)), None)


def _newest_live(history: Sequence[Lived]) -> int | None:
    """The place of the newest entry that says what is live."""
    places = (i for i in range(len(history) - 1, -1, -1) if history[i].status is HistoryStatus.SUCCESS)
    return next(places, None)


def _release(entry: Lived) -> Release:
    return Release(entry.version, entry.sha256)


def is_same(a: Release, b: Release) -> bool:
    """A digest that nobody knows is no difference."""
    return a.version == b.version and (a.sha256 == b.sha256 or not a.sha256 or not b.sha256)
