"""When another attempt is worth it."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.retry import BASE_S, CAP_S, retry_at
from releasehand.model import TRANSIENT, FailureCode
from tests.fakes.work import TIMEOUT_S, at

FINAL = sorted(set(FailureCode) - TRANSIENT)


def ask(**said: Any) -> datetime | None:
    """After a first attempt that was cut off at second 10, with three retries left."""
    values: dict[str, Any] = {
        "code": FailureCode.DOWNLOAD_FAILED,
        "last_code": None,
        "attempt": 1,
        "retries_left": 3,
        "now": at(10),
        "deadline_at": at(TIMEOUT_S),
        "chance": 0.5,
    }
    return retry_at(**(values | said))


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_a_transient_failure_is_tried_again(code: FailureCode) -> None:
    assert ask(code=code) == at(11)


@pytest.mark.parametrize("code", FINAL)
def test_every_other_failure_is_final(code: FailureCode) -> None:
    assert ask(code=code) is None


def test_transient_is_what_may_be_gone_at_the_next_try() -> None:
    """Network, 5xx, a slow origin, no space and a first bad digest; the list is part of the contract."""
    assert {
        FailureCode.DOWNLOAD_FAILED,
        FailureCode.DOWNLOAD_SERVER_ERROR,
        FailureCode.DOWNLOAD_TOO_SLOW,
        FailureCode.NO_SPACE,
        FailureCode.DIGEST_MISMATCH,
    } == TRANSIENT


def test_without_a_retry_left_the_failure_is_final() -> None:
    assert ask(retries_left=1) is not None
    assert ask(retries_left=0) is None


def test_the_same_wrong_bytes_twice_are_final() -> None:
    mismatch = FailureCode.DIGEST_MISMATCH
    assert ask(code=mismatch, last_code=None) is not None
    assert ask(code=mismatch, last_code=FailureCode.DOWNLOAD_FAILED) is not None
    assert ask(code=mismatch, last_code=mismatch) is None


def test_a_try_that_would_start_after_the_budget_is_not_made() -> None:
    assert ask(deadline_at=at(11.5)) == at(11)
    assert ask(deadline_at=at(11)) is None


@given(attempt=st.integers(1, 11), chance=st.floats(0, 1, exclude_max=True))
def test_the_delay_is_full_jitter_under_a_growing_cap(attempt: int, chance: float) -> None:
    again_at = ask(attempt=attempt, chance=chance)
    assert again_at is not None
    assert 0 <= (again_at - at(10)).total_seconds() <= min(CAP_S, BASE_S * 2**attempt)


def test_the_cap_grows_with_each_attempt_and_then_stays() -> None:
    delays = [ask(attempt=attempt, chance=0.999_999) for attempt in range(1, 12)]
    assert [round((found - at(10)).total_seconds()) for found in delays if found] == [2, 4, 8, 16] + [30] * 7
