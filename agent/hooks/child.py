"""Hooks as children of the agent, with its rights and in its sandbox: where there is no systemd to run them,
or the agent may not ask it to."""

import asyncio
import json
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.finish import finish
from agent.hooks import HookNotRunError
from agent.process import Process, boot_id, find_session, identify
from agent.tool import Output, run_tool
from shared.files import replace_file
from shared.logs import get_log

END_S: Final = 10.0  # what outlives SIGKILL this long hangs in the kernel

log = get_log(__name__)


class HookChild:
    """The hooks of one instance. A HookPlace (agent.hooks).

    The process of the hook at work is written down, for an agent that is started after this one was
    killed. No more than the start of a process lies between it and its record."""

    def __init__(self, record: Path | None = None) -> None:
        """`record` is the file for that, of this instance alone; without one nothing is written down."""
        self._record = record

    async def run(
        self, command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float, output: Output
    ) -> int:
        """See HookPlace. What is left in its process group when it ends is killed."""
        try:
            ran = await run_tool(command, environment=environment, output=output, started=self._write_down)
        finally:
            await finish(asyncio.to_thread(self._forget))
        return ran.code

    async def clear(self) -> None:
        """See HookPlace. What left the hook's session, as a daemon does, is left alone."""
        leader = await asyncio.to_thread(self._read)
        if leader is None:
            return
        who = f"process {leader.pid} of an earlier agent's hook"
        try:
            async with asyncio.timeout(END_S):
                while left := await asyncio.to_thread(find_session, leader):
                    for process in left:
                        process.kill(signal.SIGKILL)
                        await process.wait()
        except TimeoutError as exc:
            raise HookNotRunError(f"{who} does not end") from exc
        except PermissionError as exc:
            raise HookNotRunError(f"{who} is another user's") from exc
        await asyncio.to_thread(self._forget)

    def _write_down(self, pid: int) -> None:
        process = identify(pid)
        if self._record is None or process is None:
            return
        told = {"boot": boot_id(), "pid": process.pid, "started": process.started}
        try:
            # A power cut ends the hook too, so nothing has to be on the disk.
            replace_file(self._record, json.dumps(told).encode(), durable=False)
        except OSError as exc:
            log.warning("hook could not be written down", path=self._record, reason=str(exc))

    def _read(self) -> Process | None:
        try:
            found = json.loads(self._record.read_bytes()) if self._record is not None else None
        except (OSError, ValueError):
            return None
        match found:
            case {"boot": str(boot), "pid": int(pid), "started": int(started)} if boot == boot_id():
                return Process(pid, started)
            case _:
                return None

    def _forget(self) -> None:
        """A record that stays does no harm: its process has ended."""
        with suppress(OSError):
            if self._record is not None:
                self._record.unlink(missing_ok=True)
