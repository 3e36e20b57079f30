"""Where an agent can be killed: every point of its work, crossed with every kind of work."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SEED: Final = 20_261_121
WAVE: Final = 8  # agents at a time: they share one controller and two cores


class Work(StrEnum):
    """What the agent does when it is killed. Before it, v1 was deployed; before a rollback, v2 too."""

    DEPLOYMENT = "deployment"  # v2 comes up
    FAILING = "failing deployment"  # v2 does not: v1 comes back
    ROLLBACK = "rollback"  # to the kept v1
    FORCED = "forced rollback"  # v1 is downloaded and installed again


@dataclass(frozen=True)
class Crossing:
    """`nth` is the first time that the point is passed in the work itself; `target_starts` and
    `previous_starts` are how often a service is started for it once everything has ended."""

    work: Work
    point: str
    nth: int
    target_starts: int
    previous_starts: int = 0

    def __str__(self) -> str:
        return f"{self.work}, killed at {self.point}"

    @property
    def phase(self) -> str:
        """The phase that the journal is in at that point."""
        return _PHASE_OF_EFFECT.get(self.point, self.point.partition(":")[0])


_FETCH: Final = (
    *("queued:left", "downloading:entered", "fetched", "downloading:left", "verifying:entered"),
    *("verifying:left", "unpacking:entered", "unpacked", "committed", "unpacking:left"),
)
_ACTIVATE: Final = (
    *("staged:entered", "staged:left", "activating:entered", "switched", "restarted", "activating:left"),
    *("checking:entered", "checked", "checking:left", "done:entered"),
)
_FAIL: Final = (*_ACTIVATE[:7], "checking:left")
_REVERT: Final = (
    *("reverting:entered", "switched", "restarted", "checked", "reverting:left", "reverted:entered"),
)
_PHASE_OF_EFFECT: Final = {
    "fetched": "downloading",
    "unpacked": "unpacking",
    "committed": "unpacking",
    "switched": "activating",
    "restarted": "activating",
    "checked": "checking",
}
# Between a start of the service and the move that records it, going on means to start it again.
_START_AGAIN: Final = frozenset({"restarted", "activating:left"})
_REVERT_AGAIN: Final = frozenset({"restarted", "checked", "reverting:left"})


def crossings() -> Iterator[Crossing]:
    """All of them."""
    for point in (*_FETCH, *_ACTIVATE):
        again = point in _START_AGAIN
        yield Crossing(Work.DEPLOYMENT, point, nth=2, target_starts=1 + again)
        yield Crossing(Work.FORCED, point, nth=3, target_starts=1 + again)
    for point in ("queued:left", *_ACTIVATE):
        yield Crossing(Work.ROLLBACK, point, nth=3, target_starts=1 + (point in _START_AGAIN))
    for point in (*_FETCH, *_FAIL):
        # The one that ended by itself before its check was recorded as failed is started for another check.
        again = point in _START_AGAIN or point == "checking:left"
        yield Crossing(Work.FAILING, point, nth=2, target_starts=1 + again, previous_starts=1)
    passed_before = {"switched": 3, "restarted": 3, "checked": 2}
    for point in _REVERT:
        nth, again = passed_before.get(point, 1), point in _REVERT_AGAIN
        yield Crossing(Work.FAILING, point, nth=nth, target_starts=1, previous_starts=1 + again)


def sample() -> list[Crossing]:
    """A seeded one for each phase of a deployment, for a revert, and for each kind of rollback."""
    dice, everything = random.Random(SEED), list(crossings())
    phases = ("queued", "downloading", "verifying", "unpacking", "staged", "activating", "checking", "done")
    wanted = [(Work.DEPLOYMENT, phase) for phase in phases]
    wanted += [(Work.ROLLBACK, phase) for phase in ("queued", "staged", "activating", "checking")]
    wanted += [(Work.FORCED, phase) for phase in ("downloading", "unpacking")]
    chosen = [dice.choice([c for c in everything if (c.work, c.phase) == wish]) for wish in wanted]
    reverts = [c for c in everything if c.work is Work.FAILING and (c.nth == 3 or c.phase == "reverting")]
    return [*chosen, *dice.sample(reverts, 2)]


def waves(chosen: Sequence[Crossing]) -> list[list[Crossing]]:
    return [list(chosen[at : at + WAVE]) for at in range(0, len(chosen), WAVE)]
