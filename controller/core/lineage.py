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


class HistoryTooShortError(Exception):
    """What came before the part that was read may matter: read all of it."""


class Lineage:
    """The releases of an instance, each on top of the one it came after, from entries that are added oldest
    first. It keeps no entry, so that a history of any length can be read through it.

    Without `complete` the entries are only the newest part of the history: None stands for what lies below
    them and nobody looked at."""

    def __init__(self, *, complete: bool = True) -> None:
        self._complete = complete
        self._stack: list[tuple[int, Release] | None] = [] if complete else [None]
        self._live: tuple[int, str] | None = None  # the newest entry that says what is live, and its version

    def add(self, place: int, entry: Lived) -> None:
        """Take the next entry, which is told by `place` from then on."""
        if entry.status is not HistoryStatus.SUCCESS:
            return
        self._live = place, entry.version
        if entry.version and entry.action is not HistoryAction.REVERT:
            self._put(place, _release(entry), goes_back=entry.action in _GO_BACK)

    def _put(self, place: int, release: Release, *, goes_back: bool) -> None:
        lowest = 0 if goes_back else max(0, len(self._stack) - 1)
        for depth in range(len(self._stack) - 1, lowest - 1, -1):
            known = self._stack[depth]
            if known is not None and is_same(known[1], release):
                del self._stack[depth + 1 :]
                return
        if goes_back and not self._complete:
            self._stack = [None, (place, release)]  # it lies below what is known, or is new: nobody can tell
        else:
            self._stack.append((place, release))

    def find_previous(self) -> Release | None:
        """As `previous_good`."""
        depth = 1 if self._live is not None and not self._live[1] else 2  # nothing is live: the newest of all
        found = self._stack[-depth] if len(self._stack) >= depth else None
        if found is None and not self._complete:
            raise HistoryTooShortError
        return None if found is None else found[1]

    def find_needed(self, keep: int) -> set[int]:
        """The places of the entries by which whatever follows still finds the same live version and the
        newest `keep` releases; with `keep` as long as the lineage, all of it."""
        places = {known[0] for known in self._stack[-keep:] if known is not None}
        return places | ({self._live[0]} if self._live is not None else set())


def previous_good(history: Iterable[Lived], *, complete: bool = True) -> Release | None:
    """The newest release that was active and good before the present one; None if there was none.

    `history` is oldest first. A rollback takes back what came after its target, so that going back twice goes
    back two steps; what a deployment installs stands on top. An entry without a version says that nothing was
    live. Without `complete` it is only the newest part; raises HistoryTooShortError where that does not
    tell."""
    lineage = Lineage(complete=complete)
    for place, entry in enumerate(history):
        lineage.add(place, entry)
    return lineage.find_previous()


def _release(entry: Lived) -> Release:
    return Release(entry.version, entry.sha256)


def is_same(a: Release, b: Release) -> bool:
    """A digest that nobody knows is no difference."""
    return a.version == b.version and (a.sha256 == b.sha256 or not a.sha256 or not b.sha256)
