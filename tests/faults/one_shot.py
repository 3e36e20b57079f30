# ruff: noqa: ASYNC240 — this process serves nobody else meanwhile
"""The agent's executor as a process that does one thing and ends:

    python -m tests.faults.one_shot ORDER.json    carry it out (tests.faults.order), exit 0 when it has ended
    python -m tests.faults.one_shot --serve       one after the other (tests.faults.forks)

Everything of the agent is real: journal, download, unpack, switch, service and check; the link is missing.
Tracers are attached once everything is loaded and ready, so what a start costs is not counted."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from agent.assembly import make_instance
from agent.config import AgentConfig, load_config
from agent.daemon import PACKAGES_NAME
from agent.download import Downloader
from agent.executor import Executor
from agent.journal import JOURNAL_NAME, Journal, JournalError
from agent.process import boot_id, find_marked
from agent.runner import Tools
from agent.service import ServiceManager
from agent.service.record import read_record
from agent.state_dir import hold_state_dir
from agent.switch import InstallRoot
from shared.clock import SystemClock
from shared.frames import Execute
from tests.faults.forks import serve
from tests.faults.order import (
    CHILD,
    END,
    INSTANCE,
    JOURNAL,
    JOURNAL_FAILED,
    MAIN,
    MARK,
    SERVICE,
    WORKER,
    Facts,
    Order,
    Trace,
    ended_file,
    is_end,
)
from tests.powercut.disk import cut_power

_ASK_AGAIN_S: Final = 0.1
_IDLE: Final = "idle"
"""The checkpoint of an agent that has nothing left to do for an attempt."""
_IDLE_WITHIN_S: Final = 5.0
_ANSWERS_WITHIN_S: Final = 10.0
_SET_PTRACER: Final = 0x59616D61


class HeldJournal(Journal):
    """A journal that tells the thread it works in before it opens its file."""

    held: Callable[[int], None] = staticmethod(lambda _: None)
    thread_id = 0

    def _open(self) -> None:
        self.thread_id = threading.get_native_id()
        type(self).held(self.thread_id)
        super()._open()


@dataclass
class Gate:
    """Attaches the tracers when opened; what was passed before is not counted."""

    traces: tuple[Trace, ...]
    threads: dict[str, int] = field(default_factory=dict)

    def open(self) -> None:
        """Return when each tracer has its thread."""
        for trace in self.traces:
            strace = [
                "/usr/bin/strace",
                "-y",
                "-s",
                "0",
                "-e",
                "signal=none",
                *trace.options,
                "-o",
                trace.log,
            ]
            if trace.tracee == CHILD:
                sys.executable = _wrap(Path(f"{trace.log}.sh"), [*strace, "-q", sys.executable])
                continue
            tracer = subprocess.Popen(
                [*strace, "-p", str(self.threads[trace.tracee])],
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            assert tracer.stderr is not None, "asked for above"
            ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(tracer.pid), 0, 0, 0)
            said = tracer.stderr.readline()
            assert b"attached" in said, said
            _TRACERS.append(tracer)


_TRACERS: Final[list[subprocess.Popen[bytes]]] = []  # they end with what they trace


def _wrap(path: Path, argv: list[str]) -> str:
    path.write_text(f'#!/bin/sh\nexec {" ".join(argv)} "$@"\n', encoding="ascii")
    path.chmod(0o755)
    return str(path)


class Host:
    """One instance below `folder`, made of its configuration as the daemon makes it."""

    def __init__(self, order: Order) -> None:
        self.order, self.folder = order, Path(order.folder)
        self.clock = SystemClock()
        self.news = asyncio.Event()
        self.root = InstallRoot(self.folder / "srv")
        self.config = self._configure()
        self.gate = Gate(order.traces)
        self._idle = asyncio.Event()
        self._idle.set()

    def _configure(self) -> AgentConfig:
        folder = self.folder
        path = folder.with_name(f"{folder.name}.toml")
        path.write_text(f"""\
agent_id = "one-shot"
state_dir = "{folder}/state"


[packages]
ca_file = "{self.order.ca_file}"
allowed_networks = ["127.0.0.0/8"]
reserve_bytes = 0

[[instance]]
id = "{INSTANCE}"
service = "{SERVICE}"
port = {self.order.port}
root = "{self.root.path}"
activate_timeout_s = 15
revert_timeout_s = 15

[instance.driver]
type = "command"
start = ["{sys.executable}", "-I", "-S", "serve.py"]
environment = {{ {MARK} = "{folder}", STARTS = "{folder}/starts", GATE = "/nowhere" }}

[instance.check]
type = "http"
url = "http://127.0.0.1:{self.order.port}/"
contains = '"{{version}}"'
""")
        return load_config(path, {})

    async def carry_out(self) -> None:
        """Start the agent, give it the command, wait for its end, stop the agent; traced from the gate on.

        Raises JournalError when the agent cannot start."""
        state_dir = self.config.state_dir
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))  # one thread, so that its calls have one order
        worker = await asyncio.to_thread(threading.get_native_id)
        self.gate.threads = {MAIN: os.getpid(), WORKER: worker}
        if self.order.runs:
            await self._start_service(self.order.runs)
        with hold_state_dir(state_dir):
            journal = await self._open_journal()
            policy = self.config.packages.policy()
            downloader = Downloader(state_dir / PACKAGES_NAME, policy=policy, clock=self.clock)
            try:
                await self._work(journal, downloader)
            finally:
                await downloader.close()
                await journal.close()

    async def _open_journal(self) -> HeldJournal:
        def hold(thread_id: int) -> None:
            self.gate.threads[JOURNAL] = thread_id
            if self.order.at_start:
                self.gate.open()

        HeldJournal.held = staticmethod(hold)
        journal = await HeldJournal.open(self.config.state_dir / JOURNAL_NAME, report=self.news.set)
        assert isinstance(journal, HeldJournal), "made by its own class"
        return journal

    async def _work(self, journal: Journal, downloader: Downloader) -> None:
        [section] = self.config.instance
        instance = make_instance(section, self.config, journal, self.clock)
        tools = Tools(fetcher=downloader, clock=self.clock, boot_id=boot_id(), checkpoint=self._checkpoint)
        executor = Executor([instance], tools)
        await downloader.clear()
        await executor.recover()
        if not self.order.at_start:
            self.gate.open()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(executor.run())
            if self.order.command:
                await self._see_to_the_end(executor, journal)
                await self._rest()
            work.cancel()
        facts = await self._look(journal, instance.service)
        ended_file(self.folder).write_text(json.dumps(asdict(facts)))

    def _checkpoint(self, name: str) -> None:
        if name == _IDLE:
            self._idle.set()
        elif name != END:
            self._idle.clear()
        if name == self.order.cut_at:
            cut_power(Path(self.order.mount))
        if name in {self.order.kill_at, self.order.cut_at}:
            os.kill(os.getpid(), signal.SIGKILL)

    async def _see_to_the_end(self, executor: Executor, journal: Journal) -> None:
        """Do as the link does: send the command until it is taken, and hear the reports until the end."""
        command = Execute.model_validate_json(self.order.command)
        while True:
            try:
                await executor.execute(command)
                break
            except JournalError:  # nothing was taken: the controller sends it again
                await self.clock.sleep(_ASK_AGAIN_S)
        told = 0
        while True:
            self.news.clear()
            try:
                moves = await journal.pending(after=told, limit=1_000)
            except JournalError:
                await self.clock.sleep(_ASK_AGAIN_S)
                continue
            for move in moves:
                told = move.n
                if self.order.speak:
                    sys.stdout.write(move.model_dump_json() + "\n")
                    sys.stdout.flush()
            if any(is_end(move, command.ref) for move in moves):
                self._checkpoint(END)
                return
            await self.news.wait()

    async def _rest(self) -> None:
        """Let the agent tidy up behind an attempt that it ended itself: nobody waits for that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_WITHIN_S):
                await self._idle.wait()

    async def _start_service(self, release: str) -> None:
        """Have a process of `release` run, whatever `current` names."""
        current = self.root.current()
        self.root.point_current(release)
        [section] = self.config.instance
        with TemporaryDirectory() as elsewhere:  # the journal is not to be touched before the gate
            journal = await Journal.open(Path(elsewhere) / JOURNAL_NAME)
            instance = make_instance(section, self.config, journal, self.clock)
            mark = await instance.service.restart()
            version = release.rpartition("-")[0]
            await instance.check.wait(expected_version=version, alive=instance.service.observe, mark=mark)
            await journal.close()
        self.root.point_current(current)

    async def _look(self, journal: Journal, service: ServiceManager) -> Facts:
        seen = await service.observe()
        record = read_record(self.root.path / ".service.json")
        leader = record.leader() if record else None
        runs = leader is not None and leader.is_alive()
        return Facts(
            moves=[move.model_dump(mode="json") for move in await journal.pending(after=0, limit=10_000)],
            service=seen.state,
            directory=str(Path(f"/proc/{leader.pid}/cwd").readlink()) if runs and leader else "",
            answer=await self._ask() if runs else "",
            processes=len(find_marked(MARK, self.order.folder)),
        )

    async def _ask(self) -> str:
        """The version that the service answers with; one that was just started has a moment to come up."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                reader, writer = await self._connect()
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError) as exc:
            return f"none: {exc!r}"
        return answer.rpartition(b"\r\n\r\n")[2].decode().partition(" ")[0].strip('"')

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self.order.port)
            except ConnectionRefusedError:
                await self.clock.sleep(_ASK_AGAIN_S)


def carry_out(order: Order) -> int:
    """Do it; return the exit status."""
    try:
        asyncio.run(Host(order).carry_out())
    except JournalError as exc:
        sys.stderr.write(f"{exc}\n")
        return JOURNAL_FAILED
    return 0


def _make_way(path: Path) -> None:
    """End what earlier orders left running, where this process serves a namespace of its own."""
    if os.getpid() != 1 or Order.read(path).follows:
        return
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # process 1 reaches its own namespace alone
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _carry_out_file(path: Path) -> int:
    return carry_out(Order.read(path))


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve(_carry_out_file, before=_make_way)
    else:
        sys.exit(_carry_out_file(Path(sys.argv[1])))
