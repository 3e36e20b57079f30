"""What a service prints around an activation: files on a disk, journals as journalctl tells them."""

import os
from pathlib import Path

import pytest

from agent.service.output import OUTPUT_BYTES, FileOutput, JournalOutput
from shared.clock import SystemClock
from tests.fakes.clock import FakeClock


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def put_aside(log: Path) -> None:
    log.rename(log.with_name(f"{log.name}.1"))


def make_link(directory: Path) -> Path:
    link = directory / "link.log"
    link.symlink_to(directory / "secret")
    return link


# A file.


async def test_only_what_came_after_the_mark_is_told(log: Path) -> None:
    output = FileOutput(log)
    append(log, "before\n")
    mark = await output.mark()
    assert await output.since(mark, flush=True) == ""
    append(log, "after\x1b[31m\n")
    assert await output.since(mark, flush=True) == "after\\x1b[31m"


async def test_a_file_that_was_not_there_is_all_new(log: Path) -> None:
    output = FileOutput(log)
    mark = await output.mark()
    assert await output.since(mark, flush=True) == ""
    append(log, "first words")
    assert await output.since(mark, flush=True) == "first words"


async def test_a_file_that_was_put_aside_is_read_in_both_places(log: Path) -> None:
    output = FileOutput(log)
    append(log, "old\n")
    mark = await output.mark()
    append(log, "last words\n")
    put_aside(log)
    append(log, "first words\n")
    assert await output.since(mark, flush=True) == "last words\nfirst words"


async def test_a_file_that_was_made_shorter_is_read_from_its_start(log: Path) -> None:
    output = FileOutput(log)
    append(log, "much that was said before")
    mark = await output.mark()
    os.truncate(log, 0)
    append(log, "news")
    assert await output.since(mark, flush=True) == "news"


async def test_only_the_end_of_a_long_file_is_read(log: Path) -> None:
    output = FileOutput(log)
    mark = await output.mark()
    append(log, "x" * OUTPUT_BYTES + "the end")
    told = await output.since(mark, flush=True)
    assert (len(told), told[-8:]) == (OUTPUT_BYTES, "xthe end")


async def test_what_is_no_file_is_not_read(log: Path, tmp_path: Path) -> None:
    output = FileOutput(log)
    os.mkfifo(log)
    assert await output.mark() == ""
    assert await output.since("", flush=True) == "(it cannot be read: it is no file)"
    append(tmp_path / "secret", "a secret")
    link = FileOutput(make_link(tmp_path))
    assert "a secret" not in await link.since("", flush=True)


# A journal.


def journal(script: str) -> JournalOutput:
    """`script` in journalctl's place; its arguments begin at $1."""
    return JournalOutput("web.service", clock=SystemClock(), journalctl=("/bin/sh", "-c", script, "sh"))


async def test_the_journal_is_asked_for_the_unit_since_the_mark() -> None:
    output = JournalOutput("web.service", clock=FakeClock(), journalctl=("/bin/echo",))
    mark = await output.mark()
    assert float(mark) == pytest.approx(FakeClock().now().timestamp())
    told = (await output.since(mark, flush=True)).split()
    assert {f"--since=@{mark}", "--unit=web.service", "--all", "--quiet"} < set(told)


async def test_words_on_their_way_are_waited_for_where_that_is_allowed(tmp_path: Path) -> None:
    await journal(f'echo "$@" >> {tmp_path}/asked').since("1.0", flush=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:-1] == (["--quiet --sync"] if os.geteuid() == 0 else [])
    (tmp_path / "asked").unlink()
    await journal(f'echo "$@" >> {tmp_path}/asked').since("1.0", flush=False)
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


async def test_a_journal_that_cannot_be_read_says_so_in_its_place() -> None:
    told = await journal(
        "echo 'No journal files were opened due to insufficient permissions.'; exit 1"
    ).since("1", flush=True)
    assert told.startswith("(it cannot be read: journalctl ended with 1: No journal files were opened")
    missing = JournalOutput("web.service", clock=SystemClock(), journalctl=("/no/journalctl",))
    assert "does not start: No such file" in await missing.since("1", flush=True)


async def test_a_journal_without_end_is_left_where_it_is() -> None:
    endless = JournalOutput(
        "web.service",
        clock=SystemClock(),
        journalctl=("/bin/sh", "-c", 'test "$2" = --sync || { echo words; exec tail -f /dev/null; }', "j"),
        read_s=0.2,
    )
    assert await endless.since("1", flush=True) == "words\n(it could not be read to its end within 0.2 s)"


async def test_an_attempt_of_an_agent_that_set_no_mark_is_told_nothing() -> None:
    assert await journal("echo all that was ever said").since("", flush=True) == ""
