"""The attempt's machine: every pair of phase and outcome, listed or not."""

from itertools import product

import pytest

from releasehand.model import Phase
from shared.attempt import (
    CANCELLABLE,
    DURABLE,
    LIVE,
    PAST_NO_RETURN,
    TERMINAL,
    TRANSITIONS,
    Outcome,
    UnlistedMoveError,
    advance,
)

PAIRS = list(product(Phase, Outcome))
UNLISTED = [pair for pair in PAIRS if pair not in TRANSITIONS]


def reachable_from(phase: Phase) -> set[Phase]:
    """Every phase that some row of outcomes leads to."""
    found: set[Phase] = set()
    open_ends = [phase]
    while open_ends:
        left = open_ends.pop()
        for (start, _), entered in TRANSITIONS.items():
            if start is left and entered not in found:
                found.add(entered)
                open_ends.append(entered)
    return found


@pytest.mark.parametrize(("phase", "outcome"), list(TRANSITIONS))
def test_a_listed_move_leads_where_the_table_says(phase: Phase, outcome: Outcome) -> None:
    assert advance(phase, outcome) is TRANSITIONS[phase, outcome]


@pytest.mark.parametrize(("phase", "outcome"), UNLISTED)
def test_an_unlisted_move_raises_and_names_itself(phase: Phase, outcome: Outcome) -> None:
    before = dict(TRANSITIONS)
    with pytest.raises(UnlistedMoveError, match=f"{phase} has no way out by {outcome}") as caught:
        advance(phase, outcome)
    assert (caught.value.machine, caught.value.state, caught.value.event) == ("attempt", phase, outcome)
    assert dict(TRANSITIONS) == before


def test_every_phase_is_either_live_or_an_end() -> None:
    assert set(Phase) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


def test_every_phase_can_be_reached_from_the_first() -> None:
    assert reachable_from(Phase.QUEUED) == set(Phase) - {Phase.QUEUED}


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_every_live_phase_can_come_to_an_end(phase: Phase) -> None:
    assert reachable_from(phase) & TERMINAL


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_no_phase_is_entered_twice_by_one_attempt(phase: Phase) -> None:
    assert phase not in reachable_from(phase)


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_every_live_phase_knows_success_and_failure(phase: Phase) -> None:
    assert (phase, Outcome.OK) in TRANSITIONS
    assert (phase, Outcome.FAILED) in TRANSITIONS


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_no_end_has_a_way_out(phase: Phase) -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is phase]


@pytest.mark.parametrize("phase", sorted(CANCELLABLE))
def test_a_cancel_before_the_point_of_no_return_ends_the_attempt(phase: Phase) -> None:
    assert advance(phase, Outcome.CANCELLED) is Phase.CANCELLED


@pytest.mark.parametrize("phase", sorted(CANCELLABLE))
def test_a_failure_before_the_point_of_no_return_needs_no_revert(phase: Phase) -> None:
    assert advance(phase, Outcome.FAILED) is Phase.FAILED


@pytest.mark.parametrize("phase", sorted(PAST_NO_RETURN))
def test_past_the_point_of_no_return_nothing_cancels(phase: Phase) -> None:
    assert (phase, Outcome.CANCELLED) not in TRANSITIONS
    assert reachable_from(phase).isdisjoint({Phase.CANCELLED, Phase.FAILED})


def test_activating_is_the_only_door_past_the_point_of_no_return() -> None:
    doors = {to for (left, _), to in TRANSITIONS.items() if left in CANCELLABLE and to in PAST_NO_RETURN}
    assert doors == {Phase.ACTIVATING}


def test_live_phases_are_cancellable_up_to_the_point_of_no_return() -> None:
    assert LIVE == CANCELLABLE | PAST_NO_RETURN
    assert not CANCELLABLE & PAST_NO_RETURN


def test_a_failed_activation_or_check_is_taken_back_and_a_failed_revert_is_broken() -> None:
    assert advance(Phase.ACTIVATING, Outcome.FAILED) is Phase.REVERTING
    assert advance(Phase.CHECKING, Outcome.FAILED) is Phase.REVERTING
    assert advance(Phase.REVERTING, Outcome.OK) is Phase.REVERTED
    assert advance(Phase.REVERTING, Outcome.FAILED) is Phase.BROKEN


def test_what_a_crash_must_not_forget_is_durable() -> None:
    """The command, `staged`, `activating`, the outcome; and `reverting`, or a crash would activate again."""
    assert {Phase.QUEUED, Phase.STAGED, Phase.ACTIVATING, Phase.REVERTING} | TERMINAL == DURABLE


def test_only_earlier_phases_do_without_a_durable_write() -> None:
    assert set(Phase) - DURABLE == {Phase.DOWNLOADING, Phase.VERIFYING, Phase.UNPACKING, Phase.CHECKING}
