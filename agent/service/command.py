"""Services without systemd: the agent starts the process, detached, and finds it again after its death."""

import asyncio
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agent.errors import ActivationError
from agent.finish import finish
from agent.observation import Observation, ProcessMark
from agent.process import Process, boot_id, identify
from agent.service.record import TOKEN_VARIABLE, ServiceRecord, read_record, remove_record, write_record
from agent.tool import MINIMAL_PATH, run_tool
from releasehand.model.status import ServiceState

_LOG_BYTES: Final = 16 * 1024 * 1024  # a longer log is put aside when the service starts
_KILL_TIMEOUT_S: Final = 10.0  # a process that outlives SIGKILL this long hangs in the kernel


class _Detached(subprocess.Popen[bytes]):
    """A process that is meant to outlive us: dropping the handle is no leak, so no warning either."""

    def __del__(self) -> None:
        """Do nothing."""


class CommandService:
    """One long-running process. A ServiceManager (agent.service)."""

    sees_process: Final = True

    def __init__(
        self,
        root: Path,
        *,
        start: Sequence[str],
        service: str,
        instance: str,
        port: int,
        version: Callable[[], str],
        stop: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        stop_timeout_s: float = 10.0,
        starts_after_boot: bool = True,
    ) -> None:
        """`start` and `stop` are argvs of the host's configuration; they run in the directory of the active
        release.

        `version` tells the version that `current` names when a start needs it; it may block and raise
        AttemptError.
        """
        self._root, self._start, self._stop = root, tuple(start), tuple(stop)
        self._names = {
            "RELEASEHAND_SERVICE": service,
            "RELEASEHAND_INSTANCE": instance,
            "RELEASEHAND_PORT": str(port),
        }
        self._version, self._environment, self._stop_timeout_s = version, dict(environment), stop_timeout_s
        self._starts_after_boot = starts_after_boot
        self._record_path = root / ".service.json"
        self._started: ServiceRecord | None = None  # by this driver, whether or not the disk took it
        self._exit_codes: dict[int, int] = {}  # of our own children, by pid; the newest alone

    async def restart(self) -> ProcessMark:
        """See ServiceManager. On return the new process is written down; it may still fail to come up."""
        await self.stop()
        return await finish(
            self._launch()
        )  # started but not written down must not happen, so no cancel in between

    async def stop(self) -> None:
        """See ServiceManager. `stop` argv or SIGTERM to the process group; SIGKILL after `stop_timeout_s`."""
        record = await asyncio.to_thread(self._read)
        if record is None:
            return
        try:
            await self._end(record)
            await asyncio.to_thread(remove_record, self._record_path)
        except OSError as exc:
            raise ActivationError(f"stop {self._start[0]}", exc.strerror or str(exc)) from exc

    async def start_after_boot(self) -> bool:
        """See ServiceManager. A record of an earlier boot is there for a service that was not stopped since
        it was started."""
        record = await asyncio.to_thread(read_record, self._record_path)
        if not self._starts_after_boot or record is None or record.boot == boot_id():
            return False
        await finish(self._launch())
        return True

    async def observe(self) -> Observation:
        """See ServiceManager. The mark is "pid:starttime"."""
        try:
            return await asyncio.to_thread(self._look)
        except OSError as exc:
            return Observation(ServiceState.UNKNOWN, None, f"cannot look: {exc.strerror}")

    def _read(self) -> ServiceRecord | None:
        """What is written down of the newest start, with its process also where the disk took the intent
        alone: its token is not to be seen until it has become the program, and a program may hide it."""
        record, started = read_record(self._record_path), self._started
        return started if record and started and record.token == started.token else record

    def _look(self) -> Observation:
        record = self._read()
        process = record.leader() if record else None
        if process is None:
            return Observation(ServiceState.STOPPED, None, "not started")
        if process.is_alive():
            return Observation(ServiceState.RUNNING, _mark(process), f"process {process.pid} runs")
        code = self._exit_codes.get(process.pid)
        how = "" if code is None else f" by signal {-code}" if code < 0 else f" with exit code {code}"
        return Observation(ServiceState.FAILED, None, f"process {process.pid} ended{how}")

    async def _launch(self) -> ProcessMark:
        """Intent, effect, record: a kill between any two leaves a process that the token finds."""
        try:
            child, intent = await asyncio.to_thread(self._spawn)
            process = identify(child.pid)
            self._reap_later(child)
            if process is None:
                raise ActivationError(f"start {self._start[0]}", "it ended at once")
            self._started = replace(intent, pid=process.pid, started=process.started)
            await asyncio.to_thread(write_record, self._record_path, self._started)
        except OSError as exc:
            raise ActivationError(f"start {self._start[0]}", exc.strerror or str(exc)) from exc
        return _mark(process)

    def _spawn(self) -> tuple[_Detached, ServiceRecord]:
        release = (self._root / "current").resolve(strict=True)
        environment = {
            "PATH": MINIMAL_PATH,
            **self._environment,
            **self._names,
            "RELEASEHAND_VERSION": self._version(),
        }
        record = ServiceRecord(token=secrets.token_hex(16), boot=boot_id())
        write_record(self._record_path, record)
        log = self._open_log()
        try:
            child = _Detached(
                self._start,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=release,  # the real directory: it must not move under the process at the next switch
                env=environment | {TOKEN_VARIABLE: record.token},
                start_new_session=True,
            )
        except OSError:
            remove_record(self._record_path)
            raise
        finally:
            os.close(log)
        return child, record

    def _open_log(self) -> int:
        path = self._root / "service.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o640)
        if os.fstat(fd).st_size <= _LOG_BYTES:
            return fd
        os.close(fd)
        path.rename(path.with_name("service.log.1"))
        return os.open(path, flags, 0o640)

    def _reap_later(self, child: _Detached) -> None:
        loop = asyncio.get_running_loop()
        fd = os.pidfd_open(child.pid)  # ours and not reaped, so the number is its own

        def reap() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self._exit_codes = {child.pid: child.wait()}

        loop.add_reader(fd, reap)

    async def _end(self, record: ServiceRecord) -> None:
        leader = await asyncio.to_thread(record.leader)
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                if leader is not None and leader.is_alive():
                    await self._ask_to_end(leader)
                    await leader.wait()
                for process in await asyncio.to_thread(record.survivors):
                    await process.wait()  # workers that finish their work
        except TimeoutError:
            pass  # it had its time
        try:
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                if leader is not None:
                    leader.kill_group(signal.SIGKILL)
                    await (
                        leader.wait()
                    )  # it may have overwritten its environment, so that the token does not tell
                while left := await asyncio.to_thread(record.survivors):
                    for process in left:
                        process.kill(signal.SIGKILL)
                        await process.wait()
        except TimeoutError as exc:
            raise ActivationError(f"stop {self._start[0]}", "it does not end, not even by SIGKILL") from exc

    async def _ask_to_end(self, leader: Process) -> None:
        if not self._stop or not await self._run_stop(leader):
            leader.kill_group(signal.SIGTERM)

    async def _run_stop(self, leader: Process) -> bool:
        environment = {
            "PATH": MINIMAL_PATH,
            **self._environment,
            **self._names,
            "RELEASEHAND_PID": str(leader.pid),
        }
        running = Path(f"/proc/{leader.pid}/cwd")  # the release that runs, which `current` may no longer name
        try:
            ran = await run_tool(self._stop, environment=environment, cwd=running)
        except OSError:  # a stop command that cannot run must not keep the service up: the signal will do
            return False
        return ran.code == 0


def _mark(process: Process) -> ProcessMark:
    return ProcessMark(f"{process.pid}:{process.started}")
