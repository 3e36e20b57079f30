"""A frame that is wrong thousands of times over costs little more than one that is wrong once."""

import pytest
from pydantic import ValidationError

from shared.errors import ProtocolError
from shared.frames import MAX_FRAME_BYTES, decode_from_agent, decode_from_controller

_MOST_KEPT = 100  # errors; each is a few hundred bytes of memory


def _full_of(head: str, item: str, tail: str) -> str:
    room = MAX_FRAME_BYTES - len(head) - len(tail)
    return head + ",".join([item] * (room // (len(item) + 1))) + tail


@pytest.mark.parametrize(
    ("head", "item", "tail"),
    [
        ('{"type":"report","incarnation":"one","moves":[', "{}", "]}"),
        ('{"type":"report","incarnation":"one","moves":[', "1", "]}"),
        ('{"type":"heartbeat","instances":[', "{}", "]}"),
        ('{"type":"hello","instances":[', "{}", "]}"),
        ('{"type":"hello","open_attempts":[', "{}", "]}"),
        ('{"type":"hello","instances":[{"releases":[', "{}", "]}]}"),
    ],
)
def test_the_rest_of_a_list_is_not_looked_at_once_an_item_is_wrong(head: str, item: str, tail: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_from_agent(_full_of(head, item, tail))
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() < _MOST_KEPT


@pytest.mark.parametrize("field", ["wanted", "refused"])
def test_an_agent_does_not_look_at_the_rest_either(field: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_from_controller(_full_of(f'{{"type":"welcome","{field}":[', "{}", "]}"))
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() < _MOST_KEPT


def test_a_map_of_wrong_values_is_refused_in_a_few_words() -> None:
    metadata = ",".join(f'"{key}":1' for key in range(80_000))
    with pytest.raises(ProtocolError, match=r"wrong in [0-9]+ places"):
        decode_from_agent(f'{{"type":"hello","metadata":{{{metadata}}}}}')
