"""Figures of how long work took: percentiles by their definition, samples that are even and bounded."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.figures import (
    TOLD_FAILURES,
    TURN,
    Sample,
    find_pace_ranks,
    find_rank,
    rank_failures,
    summarise,
    summarise_phases,
    tell_pace,
)
from releasehand.model import Durations, EndedAfter, Phase
from tests.fakes.clock import START

DURATIONS = st.lists(st.integers(0, 9_999_999).map(lambda ms: ms / 1_000), min_size=1, max_size=250)


@given(DURATIONS)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(durations: list[float]) -> None:
    told = summarise(durations)
    assert told.count == len(durations)
    for percent, value in ((50, told.p50_s), (95, told.p95_s), (99, told.p99_s)):
        enough = [
            one for one in durations if 100 * sum(x <= one for x in durations) >= percent * len(durations)
        ]
        assert value == min(enough)


def test_of_nothing_there_is_no_percentile() -> None:
    assert summarise([]) == Durations(count=0, p50_s=None, p95_s=None, p99_s=None)
    assert summarise_phases([]) == {}


@pytest.mark.parametrize(("percent", "count", "rank"), [(50, 1, 1), (50, 3, 2), (50, 4, 2), (95, 20, 19)])
def test_ranks_are_exact(percent: int, count: int, rank: int) -> None:
    assert find_rank(percent, count) == rank


def test_phases_come_in_the_order_of_an_attempt() -> None:
    told = summarise_phases([(Phase.CHECKING, 2.0), (Phase.QUEUED, 1.0), (Phase.CHECKING, 3.0)])
    assert list(told) == [Phase.QUEUED, Phase.CHECKING]
    assert told[Phase.CHECKING] == Durations(count=2, p50_s=2.0, p95_s=3.0, p99_s=3.0)


def test_the_most_frequent_failures_are_told_first_and_no_more_than_ten() -> None:
    told = rank_failures({f"code_{n:02}": n // 2 for n in range(30)})
    assert len(told) == TOLD_FAILURES
    assert [(one.code, one.count) for one in told[:3]] == [("code_28", 14), ("code_29", 14), ("code_26", 13)]


def test_a_pace_is_told_as_far_as_it_has_come() -> None:
    half, most = START + timedelta(seconds=1.5), START + timedelta(seconds=60)
    assert tell_pace(START, half, most, None) == EndedAfter(p50_s=1.5, p95_s=60.0, p100_s=None)
    assert tell_pace(START, START, START, START) == EndedAfter(p50_s=0, p95_s=0, p100_s=0)


@pytest.mark.parametrize(("instances", "ranks"), [(1, (1, 1, 1)), (3, (2, 3, 3)), (40, (20, 38, 40))])
def test_shares_of_an_operation_are_rounded_up_to_whole_instances(
    instances: int, ranks: tuple[int, int, int]
) -> None:
    assert find_pace_ranks(instances) == ranks


def test_a_sample_of_few_is_all_of_them() -> None:
    sample = Sample.of(5_000, 5_000)
    assert sample.is_whole
    assert all(sample.takes(task) for task in range(0, 3 * TURN, 97))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 8, 10, 13, 21, 100, 1_000])
@pytest.mark.parametrize("first", [1, 2_999_983])
def test_a_sample_is_even_whatever_pattern_the_ids_have(step: int, first: int) -> None:
    """Where every so-many-th task is of one kind, such as the slow host of each batch."""
    sample = Sample.of(10_000, 1_000)
    taken = sum(sample.takes(task) for task in range(first, first + 10_000 * step, step))
    assert 950 <= taken <= 1_050
