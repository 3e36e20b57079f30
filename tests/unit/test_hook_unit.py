"""Hooks as units: what is asked of systemd, and what is made of its answers.

Programs stand in for systemd's tools here; tests/hosts/test_hooks.py has a real systemd."""

import asyncio
from pathlib import Path

import pytest

from agent.hooks import HookNotRunError
from agent.hooks.unit import HookUnit, are_units_at_hand
from agent.tool import Output
from shared.clock import SystemClock
from tests.fakes.waiting import until

SHOW_NONE = "echo LoadState=not-found"


def sh(script: str) -> tuple[str, ...]:
    """A tool that does this; its arguments begin at $1."""
    return ("/bin/sh", "-c", script, "tool")


def hook_unit(
    *, systemd_run: tuple[str, ...] = ("/bin/true",), systemctl: str = SHOW_NONE, name: str = "web-1"
) -> HookUnit:
    return HookUnit(name, clock=SystemClock(), systemd_run=systemd_run, systemctl=sh(systemctl))


async def run(unit: HookUnit, *command: str, timeout_s: float = 30.0) -> tuple[int, str]:
    output = Output()
    code = await unit.run(command, environment={"A": "1 $2"}, timeout_s=timeout_s, output=output)
    return code, output.text


async def test_the_hook_gets_its_words_and_its_environment_and_nothing_is_expanded() -> None:
    unit = hook_unit(systemd_run=sh('printf "%s\\n" "$@"'))
    code, asked = await run(unit, "drain", "$HOME ${A} %h", "")
    assert code == 0
    words = asked.split("\n--\n")[1].split("\n")
    assert words == ["/usr/bin/env", "-i", "A=1 $$2", "drain", "$$HOME $${A} %h"]  # the last line is empty


async def test_the_unit_is_named_by_the_instance_and_bounded_beyond_the_hooks_own_time() -> None:
    unit = hook_unit(systemd_run=sh('printf "%s\\n" "$@"'), name="web+1.a_b-c")
    _, asked = await run(unit, "drain", timeout_s=2.5)
    words = asked.split("\n")
    assert "--unit=releasehand-hook-web:1.a_b-c.service" in words
    assert "--property=TimeoutStartSec=33" in words
    assert {"--wait", "--pipe", "--service-type=oneshot", "--property=KillSignal=SIGKILL"} < set(words)


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("LoadState=loaded Result=exit-code ExecMainCode=1 ExecMainStatus=3", 3),
        ("LoadState=loaded Result=signal ExecMainCode=2 ExecMainStatus=15", -15),
        ("LoadState=loaded Result=core-dump ExecMainCode=3 ExecMainStatus=11", -11),
        ("LoadState=loaded Result=oom-kill ExecMainCode=2 ExecMainStatus=9", -9),
    ],
)
async def test_how_a_hook_ended_is_read_from_its_unit(shown: str, code: int) -> None:
    unit = hook_unit(systemd_run=sh("exit 255"), systemctl=f"printf '%s\\n' {shown}")
    assert (await run(unit, "drain"))[0] == code


async def test_a_unit_that_systemd_ended_for_its_time_is_one_that_took_too_long() -> None:
    shown = "LoadState=loaded Result=timeout ExecMainCode=2 ExecMainStatus=9"
    with pytest.raises(TimeoutError):
        await run(hook_unit(systemd_run=sh("exit 1"), systemctl=f"printf '%s\\n' {shown}"), "drain")


@pytest.mark.parametrize(
    ("systemd_run", "systemctl", "why"),
    [
        (sh("exit 1"), SHOW_NONE, "systemd-run ended with 1, and there is no unit releasehand-hook-web-1"),
        (("/no/systemd-run",), SHOW_NONE, "/no/systemd-run does not start: No such file"),
        (sh("exit 1"), "printf '%s\\n' LoadState=loaded Result=resources ExecMainCode=0", "result resources"),
        (sh("exit 1"), "echo Failed to connect to bus; exit 1", "ended with 1: Failed to connect to bus"),
    ],
)
async def test_a_systemd_that_runs_nothing_is_told_in_words(
    systemd_run: tuple[str, ...], systemctl: str, why: str
) -> None:
    with pytest.raises(HookNotRunError, match=why):
        await run(hook_unit(systemd_run=systemd_run, systemctl=systemctl), "drain")


async def test_a_program_that_env_would_take_for_a_variable_is_refused() -> None:
    with pytest.raises(HookNotRunError, match="'a=b' has a '='"):
        await run(hook_unit(), "a=b")


# A systemd of files: a unit is there as long as its file is.


async def test_a_cancelled_hook_is_stopped_even_if_its_unit_was_only_about_to_start(tmp_path: Path) -> None:
    start = f"cd {tmp_path}; touch asked; until test -e stopped; do sleep 0.01; done; touch unit;"
    start += "while test -e unit; do sleep 0.01; done; touch ended"
    stop = f"cd {tmp_path}; case $1 in stop) touch stopped; rm -f unit;; esac"
    task = asyncio.create_task(run(hook_unit(systemd_run=sh(start), systemctl=stop), "drain"))
    await until((tmp_path / "asked").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "ended").exists()


LEFTOVER = """cd {}
case $1 in
list-units) if test -e unit; then echo "$6 loaded active running a hook"; fi;;
*) echo "$1 $3" >>asked; test "$1" = reset-failed && rm -f unit;;
esac"""


async def test_a_leftover_is_stopped_and_waited_for(tmp_path: Path) -> None:
    (tmp_path / "unit").touch()
    await hook_unit(systemctl=LEFTOVER.format(tmp_path)).clear()
    name = "releasehand-hook-web-1.service"
    assert (tmp_path / "asked").read_text().splitlines() == [f"stop {name}", f"reset-failed {name}"]


async def test_where_nothing_was_left_systemd_is_asked_once(tmp_path: Path) -> None:
    await hook_unit(systemctl=LEFTOVER.format(tmp_path)).clear()
    assert not (tmp_path / "asked").exists()


async def test_a_leftover_that_does_not_end_is_told() -> None:
    unit = HookUnit("web-1", clock=SystemClock(), systemctl=sh("echo a unit"), end_s=0.1)
    with pytest.raises(HookNotRunError, match=r"releasehand-hook-web-1\.service, .* does not end"):
        await unit.clear()


def test_an_agent_that_systemd_did_not_start_runs_hooks_itself() -> None:
    assert not are_units_at_hand({"PATH": "/bin"})
