"""`releasehand-agent status`: what is told of a host from its disk alone, agent or no agent."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agent.cli.app import app
from agent.cli.standing import Standing
from agent.cli.status import parse_span
from agent.config import AgentConfig
from agent.core.instant import Instant
from agent.core.link_state import LinkCondition, LinkState
from agent.core.record import begin
from agent.daemon import run_agent
from agent.journal import JOURNAL_NAME, Change, JournalError
from agent.journal.glance import LAST_ATTEMPTS, glance_at
from agent.link_file import FILE_NAME, LinkFile, link_dir, read_link
from agent.state_dir import LOCK_NAME, StateDirBusyError, find_holder, hold_state_dir
from tests.fakes.certificates import give_identity
from tests.fakes.host import INSTANCE, Host, deploy
from tests.fakes.users import ORDINARY, become, find_python, open_folder

URL = "wss://localhost:8443"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ONLINE = LinkState(LinkCondition.ONLINE, NOON, URL, NOON)
AWAY = replace(ONLINE, condition=LinkCondition.OFFLINE, why="connection refused: nothing listens at \x1b[2J")


def write_config(folder: Path, driver: str = 'type = "none"') -> Path:
    file = folder / "agent.toml"
    file.write_text(
        f'state_dir = "{folder}"\n'
        f'[[instance]]\nid = "{INSTANCE}"\nservice = "web"\nroot = "{folder}/srv"\ndriver = {{ {driver} }}\n'
    )
    return file


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["status", *words, "--config", str(config)])


def answer(config: Path) -> dict[str, Any]:
    result = run(config, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    Standing.model_validate(found)
    assert isinstance(found, dict)
    return found


@contextmanager
def agent_that_says(folder: Path, state: LinkState) -> Iterator[None]:
    """This process, as an agent does it."""
    with hold_state_dir(folder):
        asyncio.run(LinkFile(folder).write(state))
        yield


# whose the state directory is


def test_the_holder_of_a_state_directory_is_found_while_it_holds_it_and_no_longer(tmp_path: Path) -> None:
    assert find_holder(tmp_path) is None
    with hold_state_dir(tmp_path):
        assert find_holder(tmp_path) == os.getpid()
        with pytest.raises(StateDirBusyError, match=f"process {os.getpid()}"), hold_state_dir(tmp_path):
            pass
    assert find_holder(tmp_path) is None


def test_a_process_that_took_a_dead_agents_number_is_no_agent(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text(f"{os.getpid()}\n")
    assert find_holder(tmp_path) is None
    (tmp_path / LOCK_NAME).write_text("what is this?")
    assert find_holder(tmp_path) is None


@pytest.mark.slow
def test_an_agent_that_nobody_may_look_into_is_known_by_its_account() -> None:
    """As the sandboxed one without root is by its own account."""
    python = find_python(ORDINARY)
    script = (
        "from pathlib import Path; from agent.state_dir import find_holder; print(find_holder(Path('.')))"
    )
    with open_folder() as folder:
        environment = {
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]),
            "PATH": os.environ["PATH"],
        }
        with hold_state_dir(folder):
            (folder / LOCK_NAME).chmod(0o644)
            for owner, expected in ((0, str(os.getpid())), (ORDINARY, "None")):
                os.chown(folder / LOCK_NAME, owner, owner)
                asked = [*become(ORDINARY), python, "-c", script]
                done = subprocess.run(
                    asked, check=True, capture_output=True, text=True, env=environment, cwd=folder
                )
                assert done.stdout.strip() == expected


# the link's file


@pytest.mark.parametrize("state", [ONLINE, AWAY, LinkState(LinkCondition.CONNECTING, NOON)])
async def test_what_is_written_of_the_link_is_read_again(tmp_path: Path, state: LinkState) -> None:
    await LinkFile(tmp_path).write(state)
    assert read_link(os.getpid(), tmp_path) == state
    assert read_link(os.getpid() + 1, tmp_path) is None  # an agent that died wrote it
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o644
    assert json.loads((tmp_path / FILE_NAME).read_bytes()) == {
        "pid": os.getpid(),
        "state": state.condition.value,
        "since": NOON.isoformat(),
        "controller": state.controller,
        "last_heard": NOON.isoformat() if state.last_heard else None,
        "why": state.why,
    }


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b'{"pid": 1, "state": "sideways"}', b"\xff", b"[" * 50_000),
        b'{"pid":1e999,"state":"online","since":"2026-01-01","controller":"","last_heard":0,"why":""}',
    ],
    ids=range(7),
)
def test_a_file_that_no_agent_wrote_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert read_link(1, tmp_path) is None


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    """The folder is the agent's, who need not be root; who reads it may be."""
    for name in (FILE_NAME, LOCK_NAME):
        os.mkfifo(tmp_path / name)
    assert read_link(1, tmp_path) is None
    with pytest.raises(OSError, match="Illegal seek"):
        find_holder(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).symlink_to("/dev/zero")
    assert read_link(1, tmp_path) is None


async def test_an_agent_that_starts_is_not_what_the_one_before_it_was(tmp_path: Path) -> None:
    """In a container each has the same number, and the first thing it does may be a long recovery."""
    await LinkFile(tmp_path).write(ONLINE)
    (tmp_path / JOURNAL_NAME).mkdir()  # so that it comes no further
    with pytest.raises(JournalError):
        await run_agent(AgentConfig(state_dir=tmp_path))
    state = read_link(os.getpid(), tmp_path)
    assert state is not None
    assert state.condition is LinkCondition.CONNECTING


async def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    await LinkFile(tmp_path / "missing").write(ONLINE)
    assert not (tmp_path / "missing").exists()


def test_the_file_is_in_the_units_runtime_directory(tmp_path: Path) -> None:
    assert link_dir({"RUNTIME_DIRECTORY": "/run/one:/run/two"}, tmp_path) == Path("/run/one")
    assert link_dir({"RUNTIME_DIRECTORY": ""}, tmp_path) == tmp_path


def test_a_state_keeps_its_beginning_while_it_lasts() -> None:
    later = NOON + timedelta(minutes=1)
    assert AWAY.turned(LinkCondition.OFFLINE, later, why="other").since == NOON
    turned = AWAY.turned(LinkCondition.ONLINE, later)
    assert (turned.since, turned.why, turned.controller) == (later, "", URL)


# what is told


def test_a_host_where_nothing_happened_yet_is_told_so(tmp_path: Path) -> None:
    found = answer(config := write_config(tmp_path))
    assert (found["pid"], found["link"]["state"], found["tasks"]) == (None, "stopped", [])
    assert found["instances"][0]["active"] is None
    assert found["problems"] == ["this host has not joined a controller (releasehand-agent join)"]
    assert not (tmp_path / JOURNAL_NAME).exists()
    assert "does not run" in run(config).output


async def test_what_is_deployed_and_what_was_done_is_told_with_and_without_an_agent(tmp_path: Path) -> None:
    host, config = Host(tmp_path), write_config(tmp_path)
    give_identity(tmp_path, "host-1", URL)

    async def look() -> dict[str, Any]:
        return await asyncio.to_thread(answer, config)

    async with host.boot():
        await host.carry_out(deploy("v1", 1))
        host.check.sick = lambda version: version == "v2"
        await host.carry_out(deploy("v2", 2))
        now = Instant(boot_id="boot-1", boot_s=0, wall=NOON)
        await host.journal.commit(Change(begin(deploy("v3", 3), now)))
        found = await look()  # beside an open journal
    assert await look() == found  # and when its agent has gone
    assert found["agent_id"] == "host-1"
    [instance] = found["instances"]
    assert instance["active"]["version"] == "v1"
    assert [(one["version"], one["good"]) for one in instance["kept"]] == [("v1", True), ("v2", False)]
    assert [(one["version"], one["phase"], one["finished"], one["error_code"]) for one in found["tasks"]] == [
        ("v3", "queued", False, None),
        ("v2", "reverted", True, "check_failed"),
        ("v1", "done", True, None),
    ]
    assert found["reports_waiting"] > 0
    assert "secret" not in json.dumps(found)  # of the packages' URLs
    page = (await asyncio.to_thread(run, config)).output
    for words in ("web-1", "v1", "reverted", "check_failed", "not acknowledged"):
        assert words in page


async def test_an_unfinished_attempt_is_never_pushed_out_by_newer_ones(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with host.boot():
        old = Instant(boot_id="boot-1", boot_s=0, wall=NOON - timedelta(days=1))
        await host.journal.commit(Change(begin(deploy("v1", 1), old)))
        for number in range(2, 2 + LAST_ATTEMPTS):
            await host.carry_out(deploy("v1", number))
        glance = glance_at(tmp_path / JOURNAL_NAME)
    assert glance is not None
    assert len(glance.attempts) == LAST_ATTEMPTS
    assert [one.live for one in glance.attempts] == [True] + [False] * (LAST_ATTEMPTS - 1)
    assert glance.attempts[0].ref.generation == 1


def test_the_link_is_told_as_its_agent_says(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with agent_that_says(tmp_path, AWAY):
        found = answer(config)
        assert found["pid"] == os.getpid()
        assert found["link"] == {
            "state": "offline",
            "since": "2026-11-22T12:00:00Z",
            "controller": URL,
            "last_heard": "2026-11-22T12:00:00Z",
            "why": AWAY.why,
        }
        page = run(config).output
        assert "link: offline for " in page
        assert ", wss://localhost:8443, last heard of at 2026-11-22 12:00:00 UTC" in page
        assert "\x1b" not in page
    assert answer(config)["link"]["state"] == "stopped"  # the file is still there, and counts for nothing


def test_a_service_that_does_not_run_is_told_with_its_reason(tmp_path: Path) -> None:
    config = write_config(tmp_path, 'type = "command", start = ["true"]')
    release = tmp_path / "srv/releases/v1-0123456789ab"
    release.mkdir(parents=True)
    (tmp_path / "srv/current").symlink_to("releases/v1-0123456789ab")
    [instance] = answer(config)["instances"]
    assert (instance["state"], instance["problem"]) == ("stopped", "not started")
    (tmp_path / "srv/current").unlink()
    (tmp_path / "srv/current").symlink_to("releases/gone")
    [instance] = answer(config)["instances"]
    assert "which is no release here" in instance["problem"]


def test_a_damaged_journal_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / JOURNAL_NAME).write_bytes(b"no database" * 100)
    assert "cannot read" in answer(config)["problems"][0]
    assert (tmp_path / JOURNAL_NAME).read_bytes() == b"no database" * 100


# waiting


def test_waiting_ends_at_once_when_the_agent_is_online(tmp_path: Path) -> None:
    with agent_that_says(tmp_path, ONLINE):
        assert run(write_config(tmp_path), "--wait", "1h").exit_code == 0


@pytest.mark.parametrize(("state", "words"), [(AWAY, "connection refused"), (None, "the agent does not run")])
def test_waiting_in_vain_says_why(tmp_path: Path, state: LinkState | None, words: str) -> None:
    config = write_config(tmp_path)
    if state is None:
        result = run(config, "--wait", "0.1s")
    else:
        with agent_that_says(tmp_path, state):
            result = run(config, "--wait", "0.1s")
    assert result.exit_code == 1
    assert f"not online after 0.1 s: {words}" in result.stderr
    assert "\x1b" not in result.output


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    assert [parse_span(text) for text in ("5", "60s", "2min", "1.5 h")] == [5, 60, 120, 5400]
    assert run(write_config(tmp_path), "--wait", "soon").exit_code == 2


@pytest.mark.slow
def test_a_root_that_is_closed_to_this_account_is_a_problem_of_that_instance() -> None:
    python = find_python(ORDINARY)
    with open_folder() as folder:
        config = write_config(folder)
        config.write_text(config.read_text().replace("/srv", "/closed/srv"))
        (folder / "closed").mkdir(mode=0o700)
        environment = {"PYTHONPATH": os.pathsep.join(["", *sys.path]), "PATH": os.environ["PATH"]}
        command = [*become(ORDINARY), python, "-m", "agent", "status", "--json", "--config", str(config)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, cwd=Path.cwd()
        )
    assert done.returncode == 0, done
    [instance] = json.loads(done.stdout)["instances"]
    assert "Permission denied" in instance["problem"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "who"),
    [(0, "root"), (ORDINARY, "root"), (ORDINARY + 1, f"root, or {ORDINARY + 1}, whom the agent runs as")],
)
def test_an_account_that_may_not_look_is_told_who_may(owner: int, who: str) -> None:
    """Its own folder may hold what root made there and did not give away."""
    python = find_python(ORDINARY)
    with open_folder() as folder:
        config, state = write_config(folder), folder / "state"
        state.mkdir(mode=0o700)
        config.write_text(config.read_text().replace(f'"{folder}"', f'"{state}"'))
        with hold_state_dir(state):
            os.chown(state, owner, owner)
            environment = {"PYTHONPATH": os.pathsep.join(["", *sys.path]), "PATH": os.environ["PATH"]}
            command = [*become(ORDINARY), python, "-m", "agent", "status", "--config", str(config)]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=environment, cwd=Path.cwd()
            )
    assert done.returncode == 1, done
    assert done.stderr.endswith(f": Permission denied; use {who}\n"), done
