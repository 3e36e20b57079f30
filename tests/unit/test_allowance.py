"""So much per second for long, more at once now and then, and never more than that."""

from hypothesis import given
from hypothesis import strategies as st

from controller.core.allowance import Allowance


def test_a_burst_is_there_at_once_and_comes_back_with_time() -> None:
    allowance = Allowance(per_s=2, burst=3, now=0)
    assert [allowance.take(1, 0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert allowance.take(1, 0.5) == 0
    assert allowance.take(1, 0.5) == 0.5
    assert [allowance.take(1, 100) for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_was_used_already_is_paid_by_a_pause() -> None:
    allowance = Allowance(per_s=10, burst=20, now=0)
    assert allowance.charge(20, 0) == 0
    assert allowance.charge(30, 0) == 3
    assert allowance.charge(0, 3) == 0


@given(
    per_s=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 10), max_size=60),
)
def test_nobody_gets_more_than_the_burst_and_the_rate(per_s: float, burst: int, pauses: list[float]) -> None:
    allowance, now, taken = Allowance(per_s, burst, 0), 0.0, 0
    for pause in pauses:
        now += pause
        while allowance.take(1, now) == 0:
            taken += 1
        assert taken <= burst + per_s * now + 0.001
