"""The host's hooks by themselves: real programs, and how each of them ends."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import HookFailedError
from agent.hooks import OUTPUT_BYTES, Account, Action, Hook, Occasion, run_hooks
from agent.hooks.child import HookChild
from agent.process import identify
from agent.tool import MINIMAL_PATH
from tests.fakes.liveness import is_alive
from tests.fakes.waiting import until

OCCASION = Occasion(
    instance="web-1",
    service="web",
    port=8080,
    version="v2",
    release_dir=Path("/srv/web/releases/v2-abc"),
    previous_version="v1",
    action=Action.ACTIVATE,
)


def shell(script: str, *, timeout_s: float = 30) -> Hook:
    return Hook(("/bin/sh", "-c", script), timeout_s)


async def run(*hooks: Hook) -> str:
    account = Account()
    await run_hooks("pre-hook", hooks, OCCASION, account, HookChild())
    return account.text


async def test_a_hook_is_told_where_it_is_and_nothing_else() -> None:
    told = (await run(shell("pwd; env | sort"))).splitlines()
    assert told[:2] == ["pre-hook 1 (/bin/sh), activate v2: ended with 0", "/"]
    assert sorted(line for line in told[2:] if not line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))) == [
        f"PATH={MINIMAL_PATH}",
        "RELEASEHAND_ACTION=activate",
        "RELEASEHAND_INSTANCE=web-1",
        "RELEASEHAND_PORT=8080",
        "RELEASEHAND_PREVIOUS_VERSION=v1",
        "RELEASEHAND_RELEASE_DIR=/srv/web/releases/v2-abc",
        "RELEASEHAND_SERVICE=web",
        "RELEASEHAND_VERSION=v2",
    ]


async def test_no_word_of_a_controller_is_read_by_a_shell() -> None:
    account, occasion = Account(), replace(OCCASION, version="$(touch /tmp/x);v2")
    await run_hooks("pre-hook", [shell('echo "$RELEASEHAND_VERSION"')], occasion, account, HookChild())
    assert account.text.splitlines()[1] == "$(touch /tmp/x);v2"


async def test_hooks_run_in_their_order_until_one_fails(tmp_path: Path) -> None:
    hooks = [shell("echo one"), shell("echo two >&2; exit 3"), shell(f"touch {tmp_path}/three")]
    account = Account()
    with pytest.raises(HookFailedError, match=r"pre-hook 2 \(/bin/sh\): it ended with 3; last output: two"):
        await run_hooks("pre-hook", hooks, OCCASION, account, HookChild())
    assert account.text.splitlines() == [
        "pre-hook 1 (/bin/sh), activate v2: ended with 0",
        "one",
        "pre-hook 2 (/bin/sh), activate v2: ended with 3",
        "two",
    ]
    assert not (tmp_path / "three").exists()


async def test_a_hook_that_takes_too_long_is_gone_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; echo waiting; sleep 600"
    with pytest.raises(HookFailedError, match=r"it did not end within 0\.5 s; last output: waiting"):
        await run(shell(script, timeout_s=0.5))
    await until(lambda: not is_alive(int((tmp_path / "child").read_text())))


async def test_what_a_hook_leaves_in_its_group_neither_delays_nor_outlives_it(tmp_path: Path) -> None:
    await run(shell(f"sleep 600 & echo $! > {tmp_path}/child"))
    await until(lambda: not is_alive(int((tmp_path / "child").read_text())))


async def test_a_cancelled_hook_is_gone(tmp_path: Path) -> None:
    task = asyncio.create_task(
        run(shell(f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 600"))
    )
    await until((tmp_path / "pid").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_a_hook_that_cannot_start_or_is_killed_has_failed() -> None:
    with pytest.raises(HookFailedError, match=r"\(/no/such\): it does not start: No such file"):
        await run(Hook(("/no/such",)))
    with pytest.raises(HookFailedError, match="it was ended by signal 9"):
        await run(shell("kill -9 $$"))


async def test_only_the_end_of_much_output_is_kept_and_no_control_character() -> None:
    text = await run(shell("head -c 3000000 /dev/zero | tr '\\0' x; printf '\\033[31m the end'"))
    assert text.endswith("x\\x1b[31m the end")
    assert len(text) <= OUTPUT_BYTES


KILLED_IN_A_HOOK = """
import asyncio, sys
from pathlib import Path
from agent.hooks.child import HookChild
from agent.process import identify
from agent.tool import Output
child = HookChild(Path(sys.argv[1]) / "hook.json")
hook = ("/bin/sh", "-c", sys.argv[2])
asyncio.run(child.run(hook, environment={"PATH": "/bin:/usr/bin"}, timeout_s=60, output=Output()))
"""


async def test_a_hook_of_an_agent_that_was_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    hook = f"sleep 600 & echo $$ $! >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait"
    argv = [sys.executable, "-c", KILLED_IN_A_HOOK, str(tmp_path), hook]
    agent = await asyncio.create_subprocess_exec(*argv)
    await until((tmp_path / "pids").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    agent.kill()
    await agent.wait()
    assert all(map(is_alive, pids))
    os.kill(pids[0], signal.SIGKILL)  # its child is found even so
    child = HookChild(tmp_path / "hook.json")
    await child.clear()
    assert not any(map(is_alive, pids))
    assert not (tmp_path / "hook.json").exists()
    await child.clear()


async def test_a_record_of_an_earlier_boot_ends_nobody(tmp_path: Path) -> None:
    process = identify(os.getpid())
    assert process is not None
    told = {"boot": "an earlier one", "pid": process.pid, "started": process.started}
    (tmp_path / "hook.json").write_text(json.dumps(told))
    await HookChild(tmp_path / "hook.json").clear()
