"""A frame that is wrong thousands of times over costs little more than one that is wrong once."""

import pytest
from pydantic import ValidationError

from shared.errors import ProtocolError
from shared.frames import MAX_FRAME_BYTES, decode_from_agent, decode_from_controller

pytestmark = pytest.mark.slow

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


def _report_with(field: str, value: str) -> str:
    move = {"instance_id": '"i"', "generation": "1", "task": "1", "attempt": "1", "n": "1", "duration_s": "0"}
    move |= {"at": '"2026-01-01T00:00:00Z"', "left": "null", "outcome": '"ok"', "entered": '"queued"'}
    fields = ",".join(f'"{name}":{text}' for name, text in (move | {field: value}).items())
    return f'{{"type":"report","incarnation":"one","moves":[{{{fields}}}]}}'


@pytest.mark.parametrize("field", ["generation", "task", "attempt", "n", "duration_s"])
@pytest.mark.parametrize("value", ["9223372036854775808", "1" + "0" * 400, "1e999", "-1"])
def test_a_number_that_no_table_can_hold_is_refused_at_the_border(field: str, value: str) -> None:
    """It would end the controller where it is written down, and again whenever the agent repeats it."""
    if field == "duration_s" and value == "9223372036854775808":
        value = "Infinity"
    decode_from_agent(_report_with(field, "1"))
    with pytest.raises(ProtocolError):
        decode_from_agent(_report_with(field, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation", "9223372036854775807"),  # the next one could not be numbered
        ("activate_timeout_s", "1e300"),
        ("revert_timeout_s", "Infinity"),
    ],
)
def test_an_agent_cannot_say_what_the_controller_could_not_calculate_with(field: str, value: str) -> None:
    who = (
        '"type":"hello","agent_id":"a","agent_version":"","host":"","boot_id":"","incarnation":"x","last_n":0'
    )
    said = f'{{"instance_id":"i","service":"s","{field}":{value}}}'
    text = f'{{{who},"instances":[{said}]}}'
    with pytest.raises(ProtocolError, match=field):
        decode_from_agent(text)
