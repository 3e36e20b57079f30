"""Figures of how long work took, and why it failed: from values to what is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from releasehand.model import Durations, EndedAfter, FailureCount, Phase

TOLD_FAILURES: Final = 10
TURN: Final = 1_000_003
"""A prime."""
STEP: Final = 618_036
"""The golden ratio of TURN: whoever takes such steps around it spreads evenly over it, and so does every
third of them, or every other run of ten: a pattern in the ids of tasks makes no sample one-sided."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Which tasks are looked at: those whose place on the turn is below `share`; all of them at TURN."""

    share: int

    @classmethod
    def of(cls, count: int, most: int) -> Self:
        """All of `count` tasks, or about `most` of them."""
        return cls(TURN if count <= most else TURN * most // count)

    @property
    def is_whole(self) -> bool:
        return self.share >= TURN

    def takes(self, task: int) -> bool:
        """The statements that read a sample say the same."""
        return task % TURN * STEP % TURN < self.share


def find_rank(percent: int, count: int) -> int:
    """Which of `count` values in their order, from 1 on, is the smallest that `percent` of them do not exceed
    (nearest rank)."""
    return max(1, -(-percent * count // 100))


def summarise(durations_s: Iterable[float]) -> Durations:
    ordered = sorted(durations_s)
    if not ordered:
        return Durations()
    p50, p95, p99 = (round(ordered[find_rank(percent, len(ordered)) - 1], 3) for percent in (50, 95, 99))
    return Durations(count=len(ordered), p50_s=p50, p95_s=p95, p99_s=p99)


def summarise_phases(left: Iterable[tuple[str, float]]) -> dict[Phase, Durations]:
    """Of each phase that was left at all, in the order of an attempt."""
    by_phase: dict[str, list[float]] = {}
    for phase, duration_s in left:
        by_phase.setdefault(phase, []).append(duration_s)
    return {phase: summarise(by_phase[phase]) for phase in Phase if phase in by_phase}


def rank_failures(counts: Mapping[str, int]) -> list[FailureCount]:
    """The most frequent codes first, those of the same frequency by name."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [FailureCount(code=code, count=count) for code, count in ordered[:TOLD_FAILURES]]


def find_pace_ranks(instances: int) -> tuple[int, int, int]:
    """Which ends, in their order, make 50, 95 and 100 % of an operation's instances."""
    return find_rank(50, instances), find_rank(95, instances), instances


def tell_pace(
    accepted_at: datetime, p50_at: datetime | None, p95_at: datetime | None, p100_at: datetime | None
) -> EndedAfter:
    """From when so many instances had ended; None where they have not yet."""
    p50, p95, p100 = (
        None if at is None else round((at - accepted_at).total_seconds(), 3)
        for at in (p50_at, p95_at, p100_at)
    )
    return EndedAfter(p50_s=p50, p95_s=p95, p100_s=p100)
