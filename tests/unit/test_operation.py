"""The status of an operation, from the counts of its tasks."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.operation import derive_status, progress
from releasehand.model import ENDED, OPEN, Status

COUNTS = st.dictionaries(st.sampled_from(sorted(Status)), st.integers(0, 20_000))
EVERY_MIX = [
    dict(zip(Status, numbers, strict=True))
    for numbers in product((0, 1, 2), repeat=len(Status))
    if any(numbers)
]


def test_an_operation_is_pending_until_its_first_task_starts() -> None:
    assert derive_status({Status.PENDING: 3}) is Status.PENDING
    assert derive_status({Status.PENDING: 2, Status.IN_PROGRESS: 1}) is Status.IN_PROGRESS


@pytest.mark.parametrize("ended", sorted(ENDED))
def test_an_operation_is_in_progress_while_one_task_is_open(ended: Status) -> None:
    assert derive_status({Status.PENDING: 1, ended: 9}) is Status.IN_PROGRESS
    assert derive_status({Status.IN_PROGRESS: 1, ended: 9}) is Status.IN_PROGRESS


def test_it_is_completed_only_if_every_task_completed() -> None:
    assert derive_status({Status.COMPLETED: 3}) is Status.COMPLETED
    assert derive_status({Status.COMPLETED: 2, Status.FAILED: 1}) is Status.FAILED


def test_one_cancelled_task_makes_it_cancelled_whatever_the_others_did() -> None:
    assert derive_status({Status.COMPLETED: 2, Status.CANCELLED: 1}) is Status.CANCELLED
    assert derive_status({Status.FAILED: 2, Status.CANCELLED: 1}) is Status.CANCELLED


@pytest.mark.parametrize("counts", EVERY_MIX)
def test_an_operation_is_open_exactly_while_a_task_is(counts: dict[Status, int]) -> None:
    assert (derive_status(counts) in OPEN) == any(counts[status] for status in OPEN)


@given(COUNTS)
def test_progress_adds_up(counts: dict[Status, int]) -> None:
    found = progress(counts)
    assert found.total == sum(counts.values())
    assert found.total == found.completed + found.failed + found.cancelled + found.pending
    assert found.in_progress <= found.pending


def test_progress_counts_every_open_task_as_pending() -> None:
    found = progress({Status.PENDING: 2, Status.IN_PROGRESS: 3, Status.COMPLETED: 4})
    assert (found.pending, found.in_progress, found.completed, found.total) == (5, 3, 4, 9)


def test_a_status_that_no_task_has_may_be_missing_or_zero() -> None:
    assert progress({}) == progress(dict.fromkeys(Status, 0))
    assert derive_status({Status.PENDING: 1}) is derive_status({Status.PENDING: 1, Status.FAILED: 0})
