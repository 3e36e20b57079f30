"""The agent as a process: how it starts, stops and keeps others out."""

# ruff: noqa: ASYNC240 — each test has a loop to itself

import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.capabilities import describe_sandbox
from agent.link_file import FILE_NAME
from agent.unpack import sandbox
from releasehand.model.codes import FailureCode
from shared.frames import Refuse
from tests.fakes import withheld
from tests.fakes.archives import file, tgz
from tests.fakes.host import deploy
from tests.fakes.hub import FakeHub, run_hub
from tests.fakes.origin import content, run_origin
from tests.fakes.waiting import until

MAX_IDLE_BYTES = 60 << 20


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with run_hub() as hub:
        yield hub


@pytest.fixture
def config(tmp_path: Path, hub: FakeHub) -> Path:
    hub.take_in(tmp_path / "state")
    file = tmp_path / "agent.toml"
    file.write_text(
        f"""
agent_id = "host-1"
state_dir = "{tmp_path}/state"
log_format = "json"
controller = {{ url = "{hub.url}" }}
[[instance]]
id = "web-1"
service = "web"
root = "{tmp_path}/srv"
driver = {{ type = "command", start = ["./run"] }}
"""
    )
    return file


@asynccontextmanager
async def agent(config: Path, *launcher: str) -> AsyncIterator[Process]:
    command = [*launcher, sys.executable, "-m", "agent", "run", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_ends_it_in_good_order(
    config: Path, hub: FakeHub, number: signal.Signals
) -> None:
    async with agent(config) as process:
        await hub.wait_for_link(1)
        process.send_signal(number)
        _, said = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 0
        lines = said.decode().splitlines()
        assert any('"event": "agent is ready"' in line for line in lines)
        assert '"event": "agent stopped"' in lines[-1]
        assert "Traceback" not in said.decode()


async def test_an_agent_without_an_instance_is_there_all_the_same(config: Path, hub: FakeHub) -> None:
    config.write_text(config.read_text().partition("[[instance]]")[0])
    hub.heartbeat_s = 0.05
    async with agent(config) as process:
        assert (await hub.wait_for_link(1)).instances == []
        assert await hub.until(lambda: hub.heartbeats)
        process.terminate()
        _, said = await process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in said.decode()


async def test_an_idle_agent_is_small(config: Path, hub: FakeHub) -> None:
    async with agent(config) as process:
        await hub.wait_for_link(1)
        assert psutil.Process(process.pid).memory_info().rss <= MAX_IDLE_BYTES


@pytest.mark.parametrize("arguments", [["run", "--config"], ["run", "-c"]])
def test_a_daemon_does_not_carry_the_command_line_along(arguments: list[str], tmp_path: Path) -> None:
    told = "import sys; from agent.__main__ import main\ntry: main()\nfinally: print('typer' in sys.modules)"
    command = [sys.executable, "-c", told, *arguments, str(tmp_path / "missing.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "False\n")
    assert ended.stderr.splitlines()[0] == f"{tmp_path}/missing.toml cannot be used:"


async def ask_status(config: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "agent", "status", "--json", "--config", str(config), *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(told)


async def test_its_link_is_told_on_its_host_as_it_comes_and_goes(config: Path, hub: FakeHub) -> None:
    async with agent(config) as process:
        code, told = await ask_status(config, "--wait", "20s")
        assert (code, told["pid"], told["agent_id"]) == (0, process.pid, "host-1")
        assert (told["link"]["state"], told["link"]["controller"]) == ("online", hub.url)
        hub.is_full = True
        await hub.cut()

        def link() -> dict[str, Any]:
            found = json.loads((config.parent / "state" / FILE_NAME).read_bytes())
            assert isinstance(found, dict)
            return found

        await until(lambda: "no room" in link()["why"])
        assert link()["state"] == "offline"
        assert link()["last_heard"] >= told["link"]["since"][:19]
    _, told = await ask_status(config)
    assert (told["link"]["state"], told["pid"]) == ("stopped", None)


async def test_an_agent_that_is_not_let_in_says_that_it_is_refused(config: Path, hub: FakeHub) -> None:
    hub.greets_with = Refuse(code="certificate_revoked", reason="it was revoked")
    async with agent(config):
        file = config.parent / "state" / FILE_NAME
        await until(lambda: file.exists() and b'"refused"' in file.read_bytes())
        assert "it was revoked (certificate_revoked)" in json.loads(file.read_bytes())["why"]


async def test_a_second_agent_with_the_same_state_is_refused_in_words(config: Path, hub: FakeHub) -> None:
    async with agent(config) as first:
        await hub.wait_for_link(1)
        async with agent(config) as second:
            _, said = await asyncio.wait_for(second.communicate(), 10)
            assert second.returncode == 1
            assert f"process {first.pid} is an agent with this state directory" in said.decode()
            assert "Traceback" not in said.decode()
        assert first.returncode is None


async def test_the_controller_and_the_log_are_told_how_unpacking_is_confined(
    config: Path, hub: FakeHub
) -> None:
    config.write_text('metadata = { rack = "a7" }\n' + config.read_text())
    async with agent(config) as process:
        told = (await hub.wait_for_link(1)).metadata
        process.terminate()
        _, said = await process.communicate()
    assert told == {"rack": "a7", **describe_sandbox(sandbox.describe())}
    [line] = [one for one in said.decode().splitlines() if "unpacking is confined" in one]
    assert told.items() >= {key: json.loads(line)[key] for key in ("unpack_landlock", "unpack_user")}.items()


async def test_a_host_without_landlock_says_so(config: Path, hub: FakeHub) -> None:
    async with agent(config, sys.executable, withheld.__file__) as process:
        told = (await hub.wait_for_link(1)).metadata
        process.terminate()
        _, said = await process.communicate()
    assert told["unpack_landlock"] == "missing"
    [line] = [json.loads(one) for one in said.decode().splitlines() if "unpacking is confined" in one]
    assert (line["level"], line["unpack_landlock"]) == ("warning", "missing")
    assert "Linux 5.19 or later with Landlock" in line["mend"]


async def test_the_limits_of_the_host_count_whatever_is_commanded(
    config: Path, hub: FakeHub, tmp_path: Path
) -> None:
    async with run_origin(tmp_path) as origin:
        data = tgz(file("a"), file("b"))
        url = origin.serve("/v1.tar.gz", content(data))
        networks = f'ca_file = "{origin.ca_file}"\nallowed_networks = ["127.0.0.0/8"]'
        tables = f"[unpack]\nmax_entries = 1\n[packages]\n{networks}\n[[instance]]"
        config.write_text(config.read_text().replace("[[instance]]", tables))
        async with agent(config):
            await hub.wait_for_link(1)
            command = deploy("v1", 1).model_copy(update={"url": url})
            await hub.send(command)
            end = (await hub.wait_for_end(command.ref)).end
            assert end is not None
            assert end.code is FailureCode.ARCHIVE_REFUSED
            assert "it holds more than 1 entries" in end.message


async def test_a_killed_agent_keeps_no_lock(config: Path, hub: FakeHub) -> None:
    async with agent(config) as first:
        await hub.wait_for_link(1)
        first.kill()
        await first.wait()
    async with agent(config):
        hello = await hub.wait_for_link(2)
        assert hello.incarnation == hub.hellos[0].incarnation


async def test_a_state_directory_that_cannot_be_made_is_told(config: Path, tmp_path: Path) -> None:
    (tmp_path / "state").rename(tmp_path / "kept")
    (tmp_path / "state").write_text("a file")
    async with agent(config) as process:
        _, said = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 1
        assert "agent could not go on" in said.decode()
        assert "Traceback" not in said.decode()
