"""S13: no name leads out of an instance's root or to another unit, and no text splits a line of a log. The
other borders at which text is shown: tests/unit/test_shown.py."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agent.config import SystemdDriver
from agent.service import SystemdService
from agent.switch import InstallRoot
from releasehand.model import FailureCode
from releasehand.model.fields import Version
from shared.frames import Execute
from shared.logs import JournalFormatter, JsonFormatter, TextFormatter
from tests.fakes.host import Host, deploy, package_of
from tests.unit.test_service_systemd import Show, show, tool
from tests.unit.test_shown import FORGED, HOSTILE, STEERING

__all__ = ["show", "tool"]

UNIT = "web.service"
WORDS = ["current", "releases", ".staging", "other.service", "v1", "$HOME", "`id`"]
PARTS = ["..", ".", "/", "\\", "-", "--", " ", "\0", "\n", "\x1b[2J", "%2e", "~", ";", "ü", "\u202e", *WORDS]
NAMES = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
VERSION: TypeAdapter[str] = TypeAdapter(Version)
FORMATTERS: tuple[logging.Formatter, ...] = (TextFormatter(), JsonFormatter(), JournalFormatter())


@settings(max_examples=1_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES)
@example(name="../../etc")
@example(name="-other.service")
def test_s13_no_name_leads_out_of_the_root_or_to_another_unit(tmp_path: Path, name: str) -> None:
    root, releases = InstallRoot(tmp_path / "srv"), tmp_path / "srv" / "releases"
    places = []
    try:
        places.append(root.release_path(name))  # also of what is refused before it comes so far
        places.append(root.release_path(root.release_name(VERSION.validate_python(name), "a" * 64)))
    except (ValueError, OSError):
        pass  # refused
    for place in places:
        assert place.parent == releases
        assert os.path.normpath(place) == str(place)
    try:
        unit = SystemdDriver(type="systemd", unit=name).unit
    except ValidationError:
        return
    assert unit.endswith(".service")
    assert "/" not in unit


@settings(max_examples=1_000)
@given(text=HOSTILE, other=HOSTILE)
@example(text=FORGED, other=STEERING)
def test_s13_no_text_splits_a_line_of_a_log(text: str, other: str) -> None:
    """In the event, in an id, in a field and in what is not even text; in each form."""
    record = logging.LogRecord("agent", logging.INFO, __file__, 1, text, None, None)
    record.fields = {"instance_id": text, "version": other, "reason": other, "names": [text, other]}
    for formatter in FORMATTERS:
        assert formatter.format(record).isprintable()


COMMANDS = [
    *(
        {"version": text}
        for text in ("../../etc", "v1/../../x", "/etc", "v1\n", "-v", "--unit=other.service")
    ),
    *({"version": text} for text in ("other.service", "v1;reboot", "$(id)")),
    *({"service": text} for text in ("other", "../web", "web\0")),
    {"operation_id": "../../x\x1b[2J\n"},
    {},
]


@pytest.mark.parametrize("said", COMMANDS, ids=repr)
async def test_s13_no_command_reaches_another_unit_or_path(
    tmp_path: Path, tool: Path, show: Show, said: dict[str, Any]
) -> None:
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")
    host.real_service = SystemdService(UNIT, systemctl=[str(tool)])
    command = Execute.model_validate(deploy("v1", 1).model_dump() | said)
    host.fetcher.packages[command.url] = package_of("v1")
    before = set((tmp_path / "host").iterdir())
    async with host.boot():
        end = await host.carry_out(command)
    assert end.end is not None
    assert "\n" not in end.end.message
    if end.end.code is not None:
        assert end.end.code is FailureCode.HOST_ERROR
        assert host.current == ""
    asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert all(line.endswith(f" -- {UNIT}") for line in asked)
    made = {path.name for path in set((tmp_path / "host").iterdir()) - before}
    assert made <= {"srv", "agent.db", "agent.db-wal", "agent.db-shm", "secrets.key", "package-1"}
