"""What a tree is known by: hashes for all that stands in it, text for the symlinks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.unpack.entry import Entry, Kind
from agent.unpack.limits import Limits
from agent.unpack.links import LinkText
from agent.unpack.places import Place, Places
from agent.unpack.refusal import RefusedError
from agent.unpack.tree import Tree


class Twin(str):
    """A text whose hash is that of all of its kind."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7

    __eq__ = str.__eq__


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from(Place))))
def test_what_was_put_first_is_there(put: list[tuple[str, Place]]) -> None:
    places, model = Places(), dict[str, Place]()
    for path, what in put:
        assert places.get(path) is model.get(path)
        assert places.put(path, what) is model.get(path)
        model.setdefault(path, what)
        assert places.get(path) is model[path]


def test_nothing_is_lost_where_the_table_grows() -> None:
    places = Places()
    paths = [f"a/{number}" for number in range(20_000)]
    assert {places.put(path, Place.FILE) for path in paths} == {None}
    assert {places.get(path) for path in paths} == {Place.FILE}
    assert {places.get(f"{path}/b") for path in paths} == {None}


@pytest.mark.parametrize("second", [Kind.FILE, Kind.SYMLINK, Kind.DIRECTORY])
def test_two_paths_with_one_hash_are_refused(second: Kind) -> None:
    tree = Tree(Limits())
    tree.add(Entry(Kind.FILE, Twin("a")))
    with pytest.raises(RefusedError, match="twice"):
        tree.add(Entry(second, Twin("b"), target="a"))


def test_a_link_with_the_hash_of_another_is_no_other() -> None:
    """It would be followed to the wrong place, and from there perhaps out."""
    tree = Tree(Limits())
    tree.add(Entry(Kind.FILE, "file"))
    tree.add(Entry(Kind.SYMLINK, Twin("a"), target="deep/er"))
    tree.add(Entry(Kind.SYMLINK, "out", target="b/../.."))
    with pytest.raises(RefusedError, match="leads out"):
        tree.check_whole()


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)] * 2)))
def test_links_come_back_in_order(links: list[tuple[str, str]]) -> None:
    text = LinkText()
    for path, target in links:
        text.add(path, target * 100)
    assert list(text.take_all()) == [(path.encode(), (target * 100).encode()) for path, target in links]
    assert list(text.take_all()) == []
