"""How a killed agent goes on: the table is complete, and the crash cap overrules it."""

from itertools import product

import pytest

from agent.core.instant import Instant
from agent.core.record import AttemptRecord, begin
from agent.core.recovery import MAX_STARTS, RESUME, Resume, Shown, decide_resume, what_shows
from releasehand.model.status import Phase
from shared.attempt import CANCELLABLE, LIVE, TERMINAL
from tests.fakes.clock import START
from tests.fakes.host import deploy

NOW = Instant(boot_id="boot-1", boot_s=10.0, wall=START)


def record_in(phase: Phase, *, starts: int = 1) -> AttemptRecord:
    record = begin(deploy("v2", 2), NOW, starts=starts)
    return record.model_copy(update={"phase": phase, "target": "v2-abc", "previous": "v1-abc"})


def test_every_live_phase_can_resume_whatever_is_shown() -> None:
    assert set(RESUME) == set(product(LIVE, Shown))


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_an_ended_attempt_cannot_resume(phase: Phase) -> None:
    with pytest.raises(ValueError, match="cannot resume"):
        decide_resume(record_in(phase), Shown.TARGET)


@pytest.mark.parametrize(("phase", "shown"), sorted(product(LIVE, Shown)))
def test_below_the_crash_cap_the_table_decides(phase: Phase, shown: Shown) -> None:
    for starts in range(1, MAX_STARTS):
        assert decide_resume(record_in(phase, starts=starts), shown) is RESUME[phase, shown]


@pytest.mark.parametrize(("phase", "shown"), sorted(product(LIVE, Shown)))
def test_at_the_crash_cap_an_attempt_is_taken_back_or_given_up(phase: Phase, shown: Shown) -> None:
    action = decide_resume(record_in(phase, starts=MAX_STARTS), shown)
    if phase in CANCELLABLE:
        assert action is Resume.GIVE_UP
    elif phase is Phase.REVERTING:
        assert action is Resume.REDO
        assert decide_resume(record_in(phase, starts=2 * MAX_STARTS), shown) is Resume.GIVE_UP
    else:
        assert action is Resume.REVERT


@pytest.mark.parametrize("shown", sorted(Shown))
def test_nothing_is_reverted_before_the_point_of_no_return(shown: Shown) -> None:
    assert {RESUME[phase, shown] for phase in CANCELLABLE} == {Resume.REDO}


@pytest.mark.parametrize(
    ("current", "shown"),
    [("v2-abc", Shown.TARGET), ("v1-abc", Shown.PREVIOUS), ("", Shown.OTHER), ("v3-abc", Shown.OTHER)],
)
def test_what_current_shows_is_seen_from_the_attempt(current: str, shown: Shown) -> None:
    assert what_shows(record_in(Phase.ACTIVATING), current) is shown


def test_no_link_is_the_previous_state_of_a_first_installation() -> None:
    record = record_in(Phase.ACTIVATING).model_copy(update={"previous": ""})
    assert what_shows(record, "") is Shown.PREVIOUS
