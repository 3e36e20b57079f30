"""The host's hooks: real programs, and what each of their failures does to a host."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import HookFailedError
from agent.hooks import OUTPUT_BYTES, Account, Action, Hook, Occasion, run_hooks
from agent.hooks.child import HookChild
from agent.process import identify
from agent.tool import MINIMAL_PATH
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase, ServiceState, TaskResult
from shared.frames import MAX_LOG_TAIL_CHARS, Move
from tests.fakes.host import Host, Killed, deploy, ref_of, rollback
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


# A hook by itself.


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


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


# Hooks around an activation.

LOG = 'echo "$0 $RELEASEHAND_ACTION $RELEASEHAND_VERSION after ${{RELEASEHAND_PREVIOUS_VERSION:-nothing}}'
LOG += ' current $(readlink {root}/current | sed s,releases/,, | cut -d- -f1)" >> {log}; test ! -e {fail}-$0'


class Hooked:
    """A host whose hooks write down when they ran, and fail when they are told to."""

    def __init__(self, directory: Path, **section: object) -> None:
        self.host, self.directory = Host(directory), directory
        script = LOG.format(root=self.host.root, log=directory / "hooks.log", fail=directory / "fail")
        self.host.section = {
            "pre_hook": ({"command": ("/bin/sh", "-c", script, "before")},),
            "post_hook": ({"command": ("/bin/sh", "-c", script, "after")},),
            **section,
        }

    def fail(self, hook: str, *, now: bool = True) -> None:
        path = self.directory / f"fail-{hook}"
        path.touch() if now else path.unlink()

    def ran(self) -> list[str]:
        """What ran since the last time this was asked."""
        log = self.directory / "hooks.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[Hooked]:
    hooked = Hooked(tmp_path)
    async with hooked.host.boot() as host:
        await host.carry_out(deploy("v1", 1))
        yield hooked


def goods(end: Move) -> dict[str, bool | None]:
    assert end.end is not None
    return {one.version: one.good for one in end.end.releases}


async def test_hooks_stand_around_the_switch_and_the_check(hooked: Hooked) -> None:
    host = hooked.host
    assert hooked.ran() == [
        "before activate v1 after nothing current ",
        "after activate v1 after nothing current v1",
    ]
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.DONE
    assert hooked.ran() == ["before activate v2 after v1 current v1", "after activate v2 after v1 current v2"]
    assert end.end is not None
    assert "pre-hook 1 (/bin/sh), activate v2: ended with 0" in end.end.log_tail


async def test_a_pre_hook_that_fails_leaves_the_running_service_alone(hooked: Hooked) -> None:
    host = hooked.host
    hooked.fail("before")
    hooked.ran()
    restarts = list(host.service.restarts)
    host.check.sick = lambda _: True  # nobody asks: v1 was not touched
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.REVERTED
    assert end.end is not None
    assert end.end.code is FailureCode.HOOK_FAILED
    assert "v1 is still live" in end.end.message
    assert goods(end) == {"v1": True, "v2": None}  # nothing was learned about v2
    assert host.service.restarts == restarts
    assert hooked.ran() == ["before activate v2 after v1 current v1", "after revert v1 after v2 current v1"]
    hooked.fail("before", now=False)
    host.check.sick = lambda _: False
    again = await host.carry_out(deploy("v2", 3))
    assert again.end is not None
    assert again.end.result is TaskResult.KEPT


async def test_a_pre_hook_that_fails_at_the_first_installation_leaves_nothing(tmp_path: Path) -> None:
    hooked = Hooked(tmp_path)
    hooked.fail("before")
    async with hooked.host.boot() as host:
        end = await host.carry_out(deploy("v1", 1))
        assert end.entered is Phase.REVERTED
        assert (host.current, host.service.restarts) == ("", [])
        assert hooked.ran() == ["before activate v1 after nothing current "]


async def test_a_post_hook_that_fails_takes_the_release_back(hooked: Hooked) -> None:
    host = hooked.host
    hooked.ran()

    def mend(name: str) -> None:
        if name == "reverting:entered":
            hooked.fail("after", now=False)

    hooked.fail("after")
    host.checkpoint = mend
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.REVERTED
    assert end.end is not None
    assert end.end.code is FailureCode.HOOK_FAILED
    assert "v1 is live again" in end.end.message
    assert goods(end) == {"v1": True, "v2": False}
    assert host.service.running == host.current
    assert hooked.ran() == [
        "before activate v2 after v1 current v1",
        "after activate v2 after v1 current v2",
        "before revert v1 after v2 current v2",
        "after revert v1 after v2 current v1",
    ]


async def test_a_post_hook_that_fails_on_the_way_back_breaks_the_instance(hooked: Hooked) -> None:
    hooked.fail("after")
    end = await hooked.host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.BROKEN
    assert end.end is not None
    assert end.end.code is FailureCode.REVERT_FAILED
    assert end.end.active.version == "v1"
    count = len(await hooked.host.moves())
    await hooked.host.executor.execute(deploy("v2", 2))  # the same command again: it is answered, not tried
    assert len(await hooked.host.moves()) == count


async def test_a_pre_hook_that_fails_on_the_way_back_does_not_hold_it_up(hooked: Hooked) -> None:
    host = hooked.host

    def spoil(name: str) -> None:
        if name == "reverting:entered":
            hooked.fail("before")

    host.checkpoint = spoil
    host.check.sick = lambda version: version == "v2"
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.REVERTED
    assert host.service.running == host.current
    assert host.live_version == "v1"


async def test_hooks_run_again_after_a_kill_between_them(tmp_path: Path) -> None:
    hooked = Hooked(tmp_path)
    host = hooked.host

    def kill(name: str) -> None:
        if name == "switched":
            raise Killed

    async with host.boot():
        await host.carry_out(deploy("v1", 1))
    hooked.ran()
    host.checkpoint = kill
    with pytest.raises(BaseExceptionGroup):
        async with host.boot():
            await host.carry_out(deploy("v2", 2))
    host.checkpoint = lambda _: None
    async with host.boot():
        assert (await host.wait_for_end(ref_of(2))).entered is Phase.DONE
    assert hooked.ran() == [
        "before activate v2 after v1 current v1",
        "before activate v2 after v1 current v2",
        "after activate v2 after v1 current v2",
    ]


async def test_an_activation_with_no_time_left_ends_its_hook(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.section = {"pre_hook": ({"command": ("/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 600")},)}
    async with host.boot():
        await host.executor.execute(deploy("v1", 1))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
        host.clock.advance(120)
        end = await host.wait_for_end(ref_of(1))
        assert end.entered is Phase.REVERTED
        assert end.end is not None
        assert end.end.code is FailureCode.ACTIVATION_FAILED
        assert "pre-hook 1 (/bin/sh), activate v1: was cancelled" in end.end.log_tail
        assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_the_account_has_both_outputs_and_never_outgrows_a_report(tmp_path: Path) -> None:
    host = Host(tmp_path)
    chatter = {"command": ("/bin/sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; exit 1")}
    host.section = {"post_hook": (chatter,)}

    def speak(name: str) -> None:
        if name == "restarted":
            with (host.root / "service.log").open("a") as log:
                log.write("y" * 100_000)

    host.checkpoint = speak
    async with host.boot():
        (host.root / "service.log").write_text("of an earlier run")
        end = await host.carry_out(deploy("v1", 1))
        assert end.end is not None
        notes, service, hooks = re.split(r"\nthe .* ends with:\n", end.end.log_tail)
        assert len(end.end.log_tail) == MAX_LOG_TAIL_CHARS
        assert "checking failed" in notes
        assert service == "y" * len(service)
        assert hooks == "x" * len(hooks)
        assert abs(len(service) - len(hooks)) <= 1


async def test_a_release_that_came_up_has_its_first_words_in_the_account_and_no_others(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    log = tmp_path / "srv" / "service.log"

    def speak(name: str) -> None:
        if name == "restarted":
            with log.open("a") as file:
                file.write(f"{host.live_version} is up\n")

    host.checkpoint = speak
    async with host.boot():
        for number, version in enumerate(("v1", "v2"), start=1):
            end = await host.carry_out(deploy(version, number))
            assert end.end is not None
            told = end.end.log_tail.partition("the service's output")[2]
            assert told == f" since the activation began (service.log) is:\n{version} is up"
        again = await host.carry_out(deploy("v2", 3))  # is there: nothing is restarted
        assert again.end is not None
        assert "output" not in again.end.log_tail


async def test_what_both_releases_said_is_in_the_account_of_a_revert_after_a_kill(tmp_path: Path) -> None:
    host = Host(tmp_path)
    log = tmp_path / "srv" / "service.log"

    def speak(name: str) -> None:
        if name == "restarted":
            with log.open("a") as file:
                file.write(f"{host.live_version} is up\n")

    def speak_and_kill(name: str) -> None:
        speak(name)
        if name == "checking:entered":
            raise Killed

    async with host.boot():
        await host.carry_out(deploy("v1", 1))
    host.checkpoint = speak_and_kill
    with pytest.raises(BaseExceptionGroup):
        async with host.boot():
            await host.carry_out(deploy("v2", 2))
    host.checkpoint, host.check.sick = speak, lambda version: version == "v2"
    async with host.boot():
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is Phase.REVERTED
        assert end.end is not None
        assert end.end.log_tail.endswith(" is:\nv2 is up\nv1 is up")


# Changing over.


async def test_a_service_can_be_stopped_before_the_switch(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.section = {"restart": "stop-switch-start"}
    seen: dict[str, tuple[str | None, str]] = {}
    host.checkpoint = lambda name: seen.__setitem__(name, (host.service.running, host.live_version))
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
        seen.clear()
        await host.carry_out(deploy("v2", 2))
    assert seen["stopped"] == (None, "v1")
    assert seen["switched"] == (None, "v2")
    assert seen["restarted"] == (host.current, "v2")


async def test_without_a_driver_the_result_says_that_nobody_looked(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.section = {"driver": {"type": "none"}}
    async with host.boot():
        end = await host.carry_out(deploy("v1", 1))
        assert end.entered is Phase.DONE
        assert end.end is not None
        assert end.end.result is TaskResult.UNVERIFIED_PROCESS
        assert (end.end.state, end.end.reason) == (ServiceState.UNKNOWN, "")
        [state] = await host.executor.states()
        assert (state.state, state.reason, state.active.version) == (ServiceState.UNKNOWN, "", "v1")
        back = await host.carry_out(rollback("v1", 2))
        assert back.end is not None
        assert back.end.result is TaskResult.ALREADY_ACTIVE
