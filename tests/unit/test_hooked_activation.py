"""Hooks around an activation: what each of their failures does to a host."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase, ServiceState, TaskResult
from shared.frames import MAX_LOG_TAIL_CHARS, Move
from tests.fakes.host import Host, Killed, deploy, ref_of, rollback
from tests.fakes.liveness import is_alive
from tests.fakes.waiting import until

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
