"""What others wrote splits no line and steers no terminal, at each border where people read it (S13)."""

import io
import json
import re
import struct
from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.console import Console

from agent.tool import printable
from controller.api.answers import presentable
from controller.store import events
from releasehand.cli.terminal import print_json, say
from releasehand.shown import escape_controls, escape_json
from shared.journald import encode_entry
from shared.urls import redact_url

FORGED = "web-1\n2026-11-22T00:00:00.000Z INFO phase ended outcome=ok"
STEERING = "\x1b[2J\x1b]0;title\x07\x9b31m\x85\x7f\r\b\u202e\u2066\u2028\u2029\ufeff\u200b\U000e0041"
HOSTILE = st.one_of(
    st.text(max_size=60),
    st.text(
        alphabet=st.sampled_from("ab \\\"'=%\t\n\r\x00\x07\x1b\x7f\x85\x9b\u061c\u200e\u202e\u2028\ud800😀")
    ),
)


@given(text=HOSTILE)
@example(text=FORGED)
@example(text=STEERING)
def test_what_was_escaped_is_one_printable_line(text: str) -> None:
    assert escape_controls(text).isprintable()
    assert escape_controls(escape_controls(text)) == escape_controls(text)
    assert not text.isprintable() or escape_controls(text) == text


@given(text=HOSTILE)
def test_an_entry_of_the_journal_has_the_fields_that_were_meant_and_no_other(text: str) -> None:
    fields = [("MESSAGE", "said"), ("RELEASEHAND_REASON", text), ("PRIORITY", "6")]
    meant = [(name, value.encode("utf-8", "backslashreplace")) for name, value in fields]
    assert list(read_entry(encode_entry(iter(fields)))) == meant


def read_entry(entry: bytes) -> Iterator[tuple[str, bytes]]:
    """As journald reads it."""
    while entry:
        line, _, rest = entry.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            entry = rest
        else:
            name, (length,) = line, struct.unpack("<Q", rest[:8])
            value, entry = rest[8 : 8 + length], rest[8 + length + 1 :]
        yield name.decode(), value


@given(text=HOSTILE.filter(lambda text: text.isprintable() or "\ud800" not in text))
def test_an_answer_of_the_api_means_the_same_and_steers_no_terminal(text: str) -> None:
    said = Said(text=text)
    shown = presentable(said.model_dump_json().encode()).decode()
    assert shown.isprintable()
    assert Said.model_validate_json(shown) == said


class Said(BaseModel):
    text: str


@given(text=HOSTILE)
def test_json_that_is_escaped_is_the_same_json(text: str) -> None:
    for ascii_only in (True, False):
        written = json.dumps({"text": text}, ensure_ascii=ascii_only)
        assert escape_json(written).isprintable()
        assert json.loads(escape_json(written)) == {"text": text}


@given(text=HOSTILE)
@example(text=FORGED)
def test_an_event_keeps_lines_only_where_it_is_made_of_lines(text: str) -> None:
    assert events.presentable(text, lines=False).isprintable()
    tail = events.presentable(text, lines=True)
    assert re.sub(r"[\n\t]", "", tail).isprintable()


@given(output=st.binary(max_size=60))
def test_what_a_program_printed_keeps_its_lines_and_nothing_else(output: bytes) -> None:
    assert printable(output).replace("\n", "").isprintable()


@given(text=HOSTILE)
def test_a_url_that_is_shown_is_one_printable_line(text: str) -> None:
    for url in (text, f"https://host/{text}", f"https://{text}/x?{text}"):
        assert redact_url(url).isprintable()


@given(text=HOSTILE, other=HOSTILE)
@example(text=FORGED, other=STEERING)
def test_the_command_line_prints_one_line_and_steers_no_terminal(text: str, other: str) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, markup=False, highlight=False)
    say(console, "instance ", text, (other, "red"))
    shown = out.getvalue()
    assert shown.endswith("\n")
    assert shown[:-1].isprintable()


@given(text=HOSTILE.filter(lambda text: "\ud800" not in text))
def test_the_command_line_s_json_steers_no_terminal(text: str) -> None:
    out = io.StringIO()
    print_json(Console(file=out, markup=False, highlight=False), Said(text=text))
    assert out.getvalue().replace("\n", "").isprintable()
    assert json.loads(out.getvalue()) == {"text": text}
