"""Which kept releases may go, and why: decided from values, so that a wrong decision is a failing test.

Only releases that were active and good count. What a host may need to go on or to go back is never named:
the active release, the good ones before it, what is pinned, what an attempt is working with."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """A complete release on the disk. `installed` and `activated` order releases: the higher the later;
    `activated` is 0 for one that never was active and good. `size_bytes` is what it takes on the disk, 0
    where nobody asked."""

    name: str
    good: bool | None
    installed: int
    activated: int = 0
    pinned: bool = False
    size_bytes: int = 0


@dataclass(frozen=True)
class Removal:
    """A release that may go. `reason` is for people: it stands in the log."""

    name: str
    reason: str


def decide_removals(
    stored: Sequence[Stored], *, current: str, in_use: AbstractSet[str], keep: int, keep_bytes: int | None
) -> list[Removal]:
    """What to remove, in this order. `current` is "" where nothing is installed; `in_use` is what unfinished
    attempts work with; `keep` counts the active release, and no other that is pinned.

    Failed releases go first, all but the newest, which stays for a person to look at while there is room.
    Those that nobody tried take the places that the good ones leave free."""
    protected = _protected(stored, current) | in_use
    good = sorted((one for one in stored if _counts(one)), key=lambda one: one.activated, reverse=True)
    counted = [one.name for one in good if not one.pinned or one.name == current]
    untried = _newest_first(one for one in stored if one.good is not False and not _counts(one))
    failed = _newest_first(one for one in stored if one.good is False)
    places = max(0, keep - len(counted))
    because = {one.name: "it failed here, and a newer one failed since" for one in failed[1:]}
    because |= {
        one.name: f"it was never active, and {keep} releases are to be kept" for one in untried[places:]
    }
    because |= dict.fromkeys(counted[keep:], f"{keep} releases are to be kept, and newer ones were good")
    order = [*reversed(failed), *reversed(untried), *reversed(good)]
    gone = [Removal(one.name, because[one.name]) for one in order if one.name in because.keys() - protected]
    left = [one for one in order if one.name not in {removal.name for removal in gone}]
    return gone + _decide_by_size(left, protected, keep_bytes)


def find_previous(stored: Sequence[Stored], current: str) -> set[str]:
    """The releases that "the one before" can mean: the newest good one that was active before `current`, and
    the newest good one that was installed before it (after a rollback the two differ)."""
    good = [one for one in stored if _counts(one) and one.name != current]
    here = next((one for one in stored if one.name == current), None)
    found = {max(good, key=lambda one: one.activated).name} if good else set()
    older = [one for one in good if here is not None and one.installed < here.installed]
    return found | ({max(older, key=lambda one: one.installed).name} if older else set())


def _decide_by_size(
    order: Sequence[Stored], protected: AbstractSet[str], keep_bytes: int | None
) -> list[Removal]:
    total = sum(one.size_bytes for one in order)
    gone = []
    for one in order:
        if keep_bytes is None or total <= keep_bytes:
            break
        if one.name not in protected:
            gone.append(Removal(one.name, f"all releases take {total} bytes, and {keep_bytes} are allowed"))
            total -= one.size_bytes
    return gone


def _protected(stored: Sequence[Stored], current: str) -> set[str]:
    return {current} | find_previous(stored, current) | {one.name for one in stored if one.pinned}


def _counts(release: Stored) -> bool:
    return release.good is True and release.activated > 0


def _newest_first(releases: Iterable[Stored]) -> list[Stored]:
    return sorted(releases, key=lambda one: one.installed, reverse=True)
