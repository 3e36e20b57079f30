"""Log lines: one line each whatever is in them, the same fields in text and JSON."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from releasehand.shown import escape_controls
from shared.logs import LogFormat, configure_logs, get_log


@pytest.fixture
def root() -> Iterator[None]:
    """Leaves logging as the test found it."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def written(form: LogFormat, event: str, /, **fields: object) -> str:
    stream = io.StringIO()
    configure_logs(form, stream=stream)
    get_log("agent.test", instance_id="web-1").info(event, **fields)
    return stream.getvalue()


@pytest.mark.usefixtures("root")
def test_text_has_the_event_and_its_fields() -> None:
    line = written("text", "phase ended", phase="staged", reason='it said "no"', empty="")
    time, _, rest = line.partition(" ")
    assert time.endswith("Z")
    assert rest == 'INFO phase ended instance_id=web-1 phase=staged reason="it said \\"no\\"" empty=""\n'


@pytest.mark.usefixtures("root")
def test_json_has_the_same_fields_and_keeps_their_types() -> None:
    line = json.loads(written("json", "phase ended", attempt=3, done=True, level="mine", where=object))
    assert (line["event"], line["instance_id"], line["attempt"], line["done"]) == (
        "phase ended",
        "web-1",
        3,
        True,
    )
    assert (line["level"], line["level_"]) == ("info", "mine")
    assert line["where"] == "<class 'object'>"


HOSTILE = "a\nb\r\x1b[31mred\x00\u202e\u2028end"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_peer_says_cannot_forge_a_line_or_steer_a_terminal(form: LogFormat) -> None:
    text = written(form, "peer spoke", said=HOSTILE)
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


def test_escapes_can_be_read_back() -> None:
    assert escape_controls(HOSTILE).isprintable()
    assert escape_controls("plain — text") == "plain — text"
    assert escape_controls("a\nb") == "a\\nb"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bug_is_logged_with_its_traceback_in_one_line(form: LogFormat) -> None:
    stream = io.StringIO()
    configure_logs(form, stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        get_log("agent.test").crash("phase met a bug")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "ValueError: broken" in text


@pytest.mark.usefixtures("root")
def test_bound_fields_do_not_leak_into_the_log_they_came_from() -> None:
    stream = io.StringIO()
    configure_logs("text", stream=stream)
    log = get_log("agent.test")
    log.bind(task=1).info("task was bound")
    log.info("plain was written")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("task was bound task=1")
    assert second.endswith("plain was written")


@pytest.mark.usefixtures("root")
def test_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logs("text", stream=first)
    configure_logs("text", stream=second)
    get_log("agent.test").info("line was written")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
