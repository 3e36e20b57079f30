"""Entries of the journal: what journald is sent, read as it reads it."""

import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.journald import JournalHandler, encode_entry, is_stderr_of_journal
from shared.logs import JournalFormatter, JsonFormatter, get_log

NAME = "test.journald"


class Journal:
    """A socket where journald's would be."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.start()

    def start(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def take(self) -> dict[str, str]:
        """The next entry. Raises BlockingIOError when there is none."""
        data, rights, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        for file in rights:
            with os.fdopen(file, "rb") as entry:
                entry.seek(0)
                data = entry.read()
        return read_entry(data)

    def take_all(self) -> list[dict[str, str]]:
        entries = []
        with suppress(BlockingIOError):
            while True:
                entries.append(self.take())
        return entries

    def close(self) -> None:
        self._socket.close()
        Path(self.path).unlink()


def read_entry(data: bytes) -> dict[str, str]:
    """As https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ says."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + size], rest[8 + size :].removeprefix(b"\n")
        fields[key.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "socket")
    yield made
    made.close()


@pytest.fixture
def handler(journal: Journal) -> Iterator[JournalHandler]:
    made = JournalHandler("releasehand-agent", address=journal.path)
    made.setFormatter(JournalFormatter())
    logger = logging.getLogger(NAME)
    logger.addHandler(made)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield made
    logger.removeHandler(made)
    logger.propagate = True
    made.close()


@pytest.mark.usefixtures("handler")
def test_an_entry_has_its_fields_beside_one_readable_line(journal: Journal) -> None:
    log = get_log(NAME, deploy_id="d-1", instance_id="web-1", service="web", version="v2", attempt=1)
    log.warning("phase ended", phase="checking", outcome="failed", reason="it said\nno")
    entry = journal.take()
    assert entry.pop("LOGGER") == NAME
    assert entry == {
        "MESSAGE": 'web-1 v2: phase ended attempt=1 phase=checking outcome=failed reason="it said\\nno"',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "releasehand-agent",
        "RELEASEHAND_DEPLOY_ID": "d-1",
        "RELEASEHAND_INSTANCE_ID": "web-1",
        "RELEASEHAND_SERVICE": "web",
        "RELEASEHAND_VERSION": "v2",
        "RELEASEHAND_ATTEMPT": "1",
        "RELEASEHAND_PHASE": "checking",
        "RELEASEHAND_OUTCOME": "failed",
        "RELEASEHAND_REASON": "it said\nno",
    }


@pytest.mark.usefixtures("handler")
def test_what_is_too_long_for_a_datagram_arrives_whole(journal: Journal) -> None:
    text = "x" * 600_000 + "\n" + "y"
    get_log(NAME).info("output was taken", output=text)
    assert journal.take()["RELEASEHAND_OUTPUT"] == text


@pytest.mark.usefixtures("handler")
def test_a_traceback_has_a_field_of_its_own(journal: Journal) -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        get_log(NAME).crash("phase met a bug")
    entry = journal.take()
    assert entry["MESSAGE"] == 'phase met a bug error="ValueError: a bug"'
    assert entry["PRIORITY"] == "3"
    assert entry["TRACEBACK"].startswith("Traceback (most recent call last):\n")


def test_lines_of_json_are_entries_with_the_same_fields(journal: Journal, handler: JournalHandler) -> None:
    handler.setFormatter(JsonFormatter())
    log = get_log(NAME, instance_id="web-1", deploy_id="d-1")
    try:
        raise ValueError("two\nlines" * 10_000)
    except ValueError:
        log.crash("phase ended", attempt=1)
    entry = journal.take()
    line = json.loads(entry["MESSAGE"])
    assert {key: line[key] for key in ("level", "event", "instance_id", "deploy_id", "attempt")} == {
        "level": "error", "event": "phase ended", "instance_id": "web-1", "deploy_id": "d-1", "attempt": 1
    }  # fmt: skip
    assert entry["TRACEBACK"] == line["traceback"]
    assert {key: entry[key] for key in ("PRIORITY", "RELEASEHAND_DEPLOY_ID", "RELEASEHAND_ATTEMPT")} == {
        "PRIORITY": "3", "RELEASEHAND_DEPLOY_ID": "d-1", "RELEASEHAND_ATTEMPT": "1"
    }  # fmt: skip


@pytest.mark.usefixtures("handler")
def test_a_journal_that_takes_nothing_keeps_nobody_waiting_and_hears_what_it_missed(journal: Journal) -> None:
    log = get_log(NAME)
    for number in range(3_000):  # far more than a socket's queue holds
        log.info("line", number=number)
    taken = journal.take_all()
    log.info("the last")
    words = f"{3_000 - len(taken)} log lines were lost: the journal took nothing"
    assert journal.take()["MESSAGE"] == words
    assert journal.take()["MESSAGE"] == "the last"


@pytest.mark.usefixtures("handler")
def test_a_journal_that_was_restarted_is_found_again(journal: Journal) -> None:
    log = get_log(NAME)
    journal.close()
    log.info("into the void")
    journal.start()
    log.info("this one opens the way")
    log.info("back")
    words = [entry["MESSAGE"] for entry in journal.take_all()]
    assert words == ["2 log lines were lost: the journal took nothing", "back"]


def test_only_a_stderr_that_systemd_tied_to_the_journal_counts(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as file:
        found = os.fstat(file.fileno())
        ours = f"{found.st_dev}:{found.st_ino}"
        assert is_stderr_of_journal({"JOURNAL_STREAM": ours}, file.fileno())
        assert not is_stderr_of_journal({"JOURNAL_STREAM": f"{found.st_dev}:1"}, file.fileno())
        assert not is_stderr_of_journal({}, file.fileno())


def test_a_value_cannot_make_a_field_of_its_own() -> None:
    entry = read_entry(encode_entry(iter([("MESSAGE", "one\nPRIORITY=0\n\x00"), ("PRIORITY", "6")])))
    assert entry == {"MESSAGE": "one\nPRIORITY=0\n\x00", "PRIORITY": "6"}
