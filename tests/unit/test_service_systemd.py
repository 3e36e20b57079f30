"""The systemd driver against a program in systemctl's place, which is really run."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ActivationError, NotAllowedError
from agent.service import ProcessMark, ServiceState, SystemdService
from tests.fakes.waiting import until

SYSTEMCTL = """#!/bin/sh
cd "${0%/*}"
echo "$*" >> asked
env > environment
case "$1" in
  show) cat shown; exit "$(cat show_code 2>/dev/null || echo 0)";;
  reset-failed) exit 1;;
  *) if [ -e hang ]; then echo $$ > pid.new; mv pid.new pid; exec sleep 600; fi
     cat said >&2 2>/dev/null
     exit "$(cat code 2>/dev/null || echo 0)";;
esac
"""
Show = Callable[..., None]


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "systemctl"
    path.write_text(SYSTEMCTL)
    path.chmod(0o755)
    return path


@pytest.fixture
def show(tool: Path) -> Show:
    def show(**properties: str) -> None:
        lines = {
            "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "InvocationID": "abc",
            "MainPID": "12", "NRestarts": "0", "Result": "success", **properties,
        }  # fmt: skip
        (tool.parent / "shown").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    show()
    return show


@pytest.fixture
def driver(tool: Path, show: Show) -> SystemdService:
    return SystemdService("shop.service", systemctl=[str(tool)])


async def test_a_restart_forgives_crashes_and_reads_the_mark_back(driver: SystemdService, tool: Path) -> None:
    assert await driver.restart() == ProcessMark("abc")
    properties = "LoadState,ActiveState,SubState,InvocationID,MainPID,NRestarts,Result"
    assert (tool.parent / "asked").read_text().splitlines() == [
        "reset-failed -- shop.service",
        "restart -- shop.service",
        f"show --property={properties} -- shop.service",
    ]


async def test_the_tool_gets_nothing_of_our_environment(
    driver: SystemdService, tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    await driver.observe()
    names = {line.partition("=")[0] for line in (tool.parent / "environment").read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LC_ALL", "SYSTEMD_COLORS", "SYSTEMD_PAGER"}


@pytest.mark.parametrize(
    ("active", "sub", "state", "has_mark"),
    [
        ("active", "running", ServiceState.RUNNING, True),
        ("active", "exited", ServiceState.RUNNING, True),
        ("reloading", "reload", ServiceState.RUNNING, True),
        ("inactive", "dead", ServiceState.STOPPED, False),
        ("deactivating", "stop-sigterm", ServiceState.STOPPED, False),
        ("failed", "failed", ServiceState.FAILED, False),
        ("activating", "start", ServiceState.UNKNOWN, True),
        ("activating", "auto-restart", ServiceState.FAILED, False),
        ("maintenance", "?", ServiceState.UNKNOWN, False),
    ],
)
async def test_each_state_of_a_unit_has_its_word(
    driver: SystemdService, show: Show, active: str, sub: str, state: ServiceState, *, has_mark: bool
) -> None:
    show(ActiveState=active, SubState=sub)
    seen = await driver.observe()
    assert seen.state is state
    assert (seen.mark is not None) is has_mark
    assert active in seen.detail


async def test_an_unknown_unit_is_told(driver: SystemdService, show: Show) -> None:
    show(LoadState="not-found", ActiveState="inactive")
    seen = await driver.observe()
    assert seen.state is ServiceState.UNKNOWN
    assert "knows no unit shop.service" in seen.detail


async def test_a_unit_that_systemd_does_not_know_is_stopped_already(
    driver: SystemdService, tool: Path
) -> None:
    (tool.parent / "said").write_text("Failed to stop shop.service: Unit shop.service not loaded.\n")
    (tool.parent / "code").write_text("5")
    await driver.stop()
    with pytest.raises(ActivationError, match="systemctl ended with 5"):
        await driver.restart()


async def test_a_restart_that_fails_says_the_tools_last_words(driver: SystemdService, tool: Path) -> None:
    (tool.parent / "said").write_text("Job for shop.service failed.\x1b[31m\n")
    (tool.parent / "code").write_text("1")
    with pytest.raises(ActivationError, match=r"restart shop\.service: systemctl ended with 1") as caught:
        await driver.restart()
    assert caught.value.output == "Job for shop.service failed.\\x1b[31m"


async def test_a_unit_that_polkit_does_not_allow_is_told_with_what_mends_it(
    driver: SystemdService, tool: Path
) -> None:
    (tool.parent / "said").write_text(
        "Failed to restart shop.service: Interactive authentication required.\n"
    )
    (tool.parent / "code").write_text("1")
    with pytest.raises(NotAllowedError, match=r"rules\.d/50-releasehand-agent\.rules"):
        await driver.restart()


async def test_a_unit_that_is_down_after_its_restart_is_told(driver: SystemdService, show: Show) -> None:
    show(ActiveState="failed", SubState="failed", Result="exit-code")
    with pytest.raises(ActivationError, match=r"does not run afterwards: failed.*exit-code"):
        await driver.restart()


async def test_stopping_asks_and_tells_failure(driver: SystemdService, tool: Path) -> None:
    await driver.stop()
    assert (tool.parent / "asked").read_text() == "stop -- shop.service\n"
    (tool.parent / "code").write_text("1")
    with pytest.raises(ActivationError, match="ended with 1"):
        await driver.stop()


async def test_without_systemctl_nothing_is_known(tmp_path: Path) -> None:
    driver = SystemdService("shop.service", systemctl=[str(tmp_path / "missing")])
    assert (await driver.observe()).state is ServiceState.UNKNOWN
    with pytest.raises(ActivationError, match="does not start"):
        await driver.restart()


async def test_a_show_that_fails_is_unknown(driver: SystemdService, tool: Path) -> None:
    (tool.parent / "show_code").write_text("1")
    assert (await driver.observe()).state is ServiceState.UNKNOWN


async def test_cancelling_ends_the_tool(driver: SystemdService, tool: Path) -> None:
    (tool.parent / "hang").touch()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver.restart())
        await until((tool.parent / "pid").exists)
        task.cancel()
    assert task.cancelled()
    pid = int((tool.parent / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
