"""The account of an attempt: what has a place in it when not all has."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.tail import compose_tail

TEXT = st.text("abc\n", max_size=300)


def test_what_fits_is_whole_and_under_its_title() -> None:
    told = compose_tail(["one", "two"], [("the one", "1"), ("nothing", ""), ("the other", "2\n3")], most=100)
    assert told == "one\ntwo\nthe one is:\n1\nthe other is:\n2\n3"


def test_what_does_not_fit_keeps_its_end_and_is_titled_so() -> None:
    told = compose_tail(["note"], [("long", "x" * 500 + "end"), ("short", "s")], most=100)
    assert told.startswith("note\nlong ends with:\nxxx")
    assert told.endswith("xend\nshort is:\ns")
    assert 90 < len(told) <= 100


@given(st.lists(TEXT, max_size=3), TEXT, TEXT)
def test_it_is_bounded_and_no_part_takes_anothers_share(lines: list[str], one: str, two: str) -> None:
    told = compose_tail(lines, [("one", one), ("two", two)], most=200)
    assert len(told) <= 200
    for part in (one, two):
        assert part[-30:] in told
