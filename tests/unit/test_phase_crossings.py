"""Every phase crossed with {error, kill, hang, disk full, cancel}: the chain of phases, the reports, and what
the host is left with."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from agent.errors import DownloadFailedError, HostError, NoSpaceError
from agent.switch import InstallRoot, KeptRelease, Staging
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase
from shared.attempt import CANCELLABLE, LIVE, TRANSITIONS
from shared.frames import Move
from tests.fakes.host import Host, Killed, deploy, ref_of
from tests.fakes.signing import Keys
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow


class Fault(StrEnum):
    ERROR = "error"  # the step fails for a reason of the host's, or of the origin's
    KILL = "kill"  # the agent dies in the step, and is started again
    HANG = "hang"  # the step never ends by itself
    DISK_FULL = "disk full"
    CANCEL = "cancel"


PATH: Final = [
    *(Phase.QUEUED, Phase.DOWNLOADING, Phase.VERIFYING, Phase.UNPACKING, Phase.STAGED),
    *(Phase.ACTIVATING, Phase.CHECKING),
]


@dataclass(frozen=True)
class Outcome:
    """`chain` is all that is reported, in its order; `live` is what is active afterwards."""

    chain: list[Phase]
    code: FailureCode | None
    live: str


def expected(phase: Phase, fault: Fault) -> Outcome:
    """The rules: nothing is changed before the point of no return, and everything is taken back after it; a
    way back that fails is loud; a kill and a late cancel change no outcome."""
    reverting = phase is Phase.REVERTING
    chain = [*PATH, Phase.REVERTING] if reverting else PATH[: PATH.index(phase) + 1]
    if fault is Fault.KILL or (fault is Fault.CANCEL and phase not in CANCELLABLE):
        if reverting:
            return Outcome([*chain, Phase.REVERTED], FailureCode.CHECK_FAILED, "v1")
        return Outcome([*PATH, Phase.DONE], None, "v2")
    if fault is Fault.CANCEL:
        return Outcome([*chain, Phase.CANCELLED], None, "v1")
    if reverting:  # the disk failed before the link was back; the hanging restart came after
        live = "v1" if fault is Fault.HANG else "v2"
        return Outcome([*chain, Phase.BROKEN], FailureCode.REVERT_FAILED, live)
    code = code_of(phase, fault)
    if phase in CANCELLABLE:
        return Outcome([*chain, Phase.FAILED], code, "v1")
    return Outcome([*chain, Phase.REVERTING, Phase.REVERTED], code, "v1")


def code_of(phase: Phase, fault: Fault) -> FailureCode:
    if fault is Fault.DISK_FULL:
        return FailureCode.NO_SPACE
    if fault is Fault.ERROR:
        return FailureCode.DOWNLOAD_FAILED if phase is Phase.DOWNLOADING else FailureCode.HOST_ERROR
    late = {Phase.ACTIVATING: FailureCode.ACTIVATION_FAILED, Phase.CHECKING: FailureCode.CHECK_FAILED}
    return late.get(phase, FailureCode.TIMEOUT)


class Stage:
    """A host that is live on v1 and told to go to v2; the fault is met once, in the step of `phase`."""

    def __init__(self, directory: Path, phase: Phase, fault: Fault) -> None:
        self.host, self.phase, self.fault = Host(directory), phase, fault
        self.armed, self.met = False, threading.Event()
        self.loop = asyncio.get_running_loop()
        self.synced = threading.Event()
        self.host.make_root = self.make_root
        self.host.checkpoint = self.pass_checkpoint
        if phase is Phase.REVERTING:
            self.host.check.sick = lambda version: version == "v2"

    def make_root(self, path: Path) -> InstallRoot:
        """A root that every step reads the releases of; the reading meets the fault."""
        stage = self

        class FaultyRoot(InstallRoot):
            def releases(self) -> list[KeptRelease]:
                stage.meet()
                return super().releases()

            def sync(self, staging: Staging) -> None:
                if stage.is_due(Fault.HANG, Phase.UNPACKING):
                    stage.met.set()
                    stage.synced.wait()
                super().sync(staging)

        return FaultyRoot(path)

    def is_due(self, fault: Fault, phase: Phase) -> bool:
        return self.armed and not self.met.is_set() and (self.fault, self.phase) == (fault, phase)

    def meet(self) -> None:
        """In a thread, as all work on the disk is."""
        if self.armed and not self.met.is_set() and self.fault is not Fault.HANG:
            if self.host.executor.unfinished[0].phase is not self.phase:
                return
            self.met.set()
            if self.fault is Fault.CANCEL:
                cancel = self.host.executor.cancel(ref_of(2))
                asyncio.run_coroutine_threadsafe(cancel, self.loop).result(10)
            else:
                self.fail()

    def fail(self) -> None:
        match self.fault:
            case Fault.DISK_FULL:
                raise NoSpaceError(self.host.root)
            case Fault.KILL:
                raise Killed
            case _ if self.phase is Phase.DOWNLOADING:
                raise DownloadFailedError("https://packages.example.com/v2.tar.gz", "cut")
            case _:
                raise HostError(self.host.root, "the disk has had enough (EIO)")

    def pass_checkpoint(self, name: str) -> None:
        host = self.host
        if name == "fetched" and self.phase is Phase.DOWNLOADING and self.armed and not self.met.is_set():
            self.met.set()  # a hang or a cancel was met before: both need a download that goes on
            self.fail()
        if self.fault is not Fault.HANG or not self.armed:
            return
        if name == f"{self.phase}:entered":
            match self.phase:
                case Phase.STAGED:
                    host.service.looked.clear()
                    host.service.seen.clear()
                case Phase.ACTIVATING | Phase.REVERTING:
                    host.service.entered.clear()
                    host.service.gate.clear()
                case Phase.CHECKING:
                    host.check.entered.clear()
                    host.check.gate.clear()
                case _:
                    """Those hang elsewhere (hang, make_root)."""
        elif name == "reverting:entered":  # only the new release hangs
            host.service.gate.set()
            host.check.gate.set()

    async def run(self) -> Move:
        """v1 is live on return, and the attempt at v2 has ended."""
        host = self.host
        async with host.boot():
            await host.carry_out(deploy("v1", 1))
        try:
            async with host.boot():
                self.armed = True
                return await (self.hang() if self.fault is Fault.HANG else self.go())
        except BaseExceptionGroup as group:
            if group.subgroup(Killed) is None:
                raise
        async with host.boot():
            return await host.wait_for_end(ref_of(2))

    async def go(self) -> Move:
        host = self.host
        held = self.fault is Fault.CANCEL and self.phase is Phase.DOWNLOADING
        if held:
            host.fetcher.entered.clear()
            host.fetcher.gate.clear()
        await host.executor.execute(deploy("v2", 2))
        if held:
            await host.fetcher.entered.wait()
            self.met.set()
            await host.executor.cancel(ref_of(2))
        return await host.wait_for_end(ref_of(2))

    async def hang(self) -> Move:
        """Have the step begin, and let the time of its phase pass."""
        host = self.host
        match self.phase:
            case Phase.DOWNLOADING:
                host.fetcher.entered.clear()
                host.fetcher.gate.clear()
            case Phase.VERIFYING:
                Keys(host.directory).trust("release")
                host.fetcher.sidecar_gate.clear()
            case Phase.QUEUED:
                host.check.gate.clear()
                host.check.entered.clear()
                await host.executor.execute(deploy("v1", 1, attempt=2).model_copy(update={"force": True}))
                await host.check.entered.wait()
            case _:
                """Those are met on the way (pass_checkpoint, make_root)."""
        await host.executor.execute(deploy("v2", 2, seconds_left=100))
        begun: dict[Phase, Callable[[], object]] = {
            Phase.QUEUED: lambda: len(host.executor.unfinished) == 2,
            Phase.DOWNLOADING: host.fetcher.entered.is_set,
            Phase.VERIFYING: host.fetcher.sidecar_asked.is_set,
            Phase.UNPACKING: self.met.is_set,
            Phase.STAGED: lambda: not host.service.seen.is_set() and host.service.looked.is_set(),
            Phase.ACTIVATING: lambda: not host.service.gate.is_set() and host.service.entered.is_set(),
            Phase.CHECKING: lambda: not host.check.gate.is_set() and host.check.entered.is_set(),
            Phase.REVERTING: lambda: not host.service.gate.is_set() and host.service.entered.is_set(),
        }
        await until(begun[self.phase])
        try:
            host.clock.advance(100 if self.phase is Phase.QUEUED else 120)
            if self.phase is Phase.QUEUED:
                host.check.gate.set()  # what it waited behind ends, too late
            return await host.wait_for_end(ref_of(2))
        finally:
            self.synced.set()
            host.service.seen.set()


CROSSINGS = sorted(product(LIVE, Fault))


@pytest.mark.parametrize(
    ("phase", "fault"), CROSSINGS, ids=[f"{phase}-{fault}" for phase, fault in CROSSINGS]
)
async def test_a_fault_in_a_phase_ends_as_the_rules_say(phase: Phase, fault: Fault, tmp_path: Path) -> None:
    stage = Stage(tmp_path, phase, fault)
    end = await stage.run()
    stage.armed = False
    host, rule = stage.host, expected(phase, fault)
    assert stage.met.is_set() or fault is Fault.HANG
    async with host.boot():
        await assert_told_once(host, end, rule)
        assert_host(host, rule)
        # and nothing of it stands in the way of what comes next
        host.check.sick = lambda _: False
        host.fetcher.sidecar_gate.set()
        host.fetcher.gate.set()
        host.service.gate.set()
        (host.directory / "trusted.d" / "release.pub").unlink(missing_ok=True)
        assert (await host.carry_out(deploy("v3", 3))).entered is Phase.DONE
        assert host.live_version == "v3"
        assert host.service.running == host.current


async def assert_told_once(host: Host, end: Move, rule: Outcome) -> None:
    """One report for each phase that was entered, each by a move of the table, one end."""
    moves = await host.moves()
    assert [move.n for move in moves] == list(range(1, len(moves) + 1))
    of_this = [move for move in moves if move.generation == 2]
    assert [move.entered for move in of_this] == rule.chain
    assert all(move.left is None or TRANSITIONS[move.left, move.outcome] is move.entered for move in of_this)
    assert [move.end is not None for move in of_this] == [False] * (len(rule.chain) - 1) + [True]
    assert end.end is not None
    assert end.end.code is rule.code
    assert end.end.active.version == rule.live
    assert host.executor.unfinished == []


def assert_host(host: Host, rule: Outcome) -> None:
    assert host.live_version == rule.live
    if rule.chain[-1] is not Phase.BROKEN:
        assert host.service.running == host.current
    assert host.left_over() == []
    on_disk = {
        path.name.partition("-")[0] for path in (host.root / "releases").iterdir() if path.name[0] != "."
    }
    assert "v1" in on_disk
    if rule.chain[-1] is Phase.CANCELLED:
        assert on_disk == {"v1"}


async def test_what_ran_before_a_reboot_runs_after_it_whatever_was_begun(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
        host.fetcher.entered.clear()
        host.fetcher.gate.clear()
        await host.executor.execute(deploy("v2", 2))
        await host.fetcher.entered.wait()
    host.service.go_down()
    host.boot_id = "boot-2"
    async with host.boot():
        assert host.service.running == host.current
        assert host.live_version == "v1"
        host.fetcher.gate.set()
        assert (await host.wait_for_end(ref_of(2))).entered is Phase.DONE
        assert host.service.running == host.current
