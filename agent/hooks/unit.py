"""Hooks as transient units of systemd: on the host as its owner knows it, not in the agent's sandbox.

Why, and what each property is for: docs/decisions/0010-hooks-as-units.md."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Final

from agent.finish import finish
from agent.hooks import HookNotRunError
from agent.tool import SYSTEMD_ENVIRONMENT, Output, Ran, run_tool
from shared.clock import Clock
from shared.logs import get_log

END_S: Final = 15.0  # what was killed is gone in milliseconds, unless it hangs in the kernel
ANSWER_S: Final = 10.0  # systemd answers in milliseconds
_LOOK_AGAIN_S: Final = 0.02
_STOP_AGAIN_S: Final = 0.5
_GUARD_S: Final = 30  # after the hook's own time: for the case that no agent is there to end it
_EXITED: Final = "1"  # CLD_EXITED of waitid(2); else it was killed
_PROPERTIES: Final = "LoadState,Result,ExecMainCode,ExecMainStatus"


def are_units_at_hand(environment: Mapping[str, str]) -> bool:
    """Whether this process was started by the host's systemd (sd_booted(3), systemd.exec(5)) and may have
    it run anything."""
    return os.geteuid() == 0 and "INVOCATION_ID" in environment and Path("/run/systemd/system").is_dir()


class HookUnit:
    """The hooks of one instance. A HookPlace (agent.hooks).

    They all have one unit's name, so that an agent finds what the one before it left running, and systemd
    itself never runs two of them."""

    def __init__(
        self,
        instance: str,
        *,
        clock: Clock,
        systemd_run: Sequence[str] = ("systemd-run",),
        systemctl: Sequence[str] = ("systemctl",),
        end_s: float = END_S,
    ) -> None:
        """`systemd_run` and `systemctl` are argvs, for hosts that have them elsewhere; `end_s` is how long
        one that was killed may take to be gone."""
        # An id may have a plus, a unit's name must not; a colon is the other way round (systemd.unit(5)).
        self._unit = f"releasehand-hook-{instance.replace('+', ':')}.service"
        self._instance, self._clock = instance, clock
        self._systemd_run, self._systemctl = tuple(systemd_run), tuple(systemctl)
        self._end_s = end_s

    async def run(
        self, command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float, output: Output
    ) -> int:
        """See HookPlace. What the hook started is killed with it: its whole control group is."""
        if "=" in command[0]:  # env(1) would take it for a variable
            raise HookNotRunError(f"the program's name {command[0]!r} has a '='")
        argv = [*self._systemd_run, *self._options(timeout_s), *_exactly(command, environment)]
        tool = asyncio.create_task(run_tool(argv, environment=SYSTEMD_ENVIRONMENT, output=output))
        try:
            await asyncio.wait([tool])
        except asyncio.CancelledError:
            await finish(self._end(tool))
            raise
        try:
            ran = tool.result()
        except OSError as exc:
            raise HookNotRunError(f"{self._systemd_run[0]} does not start: {exc.strerror or exc}") from exc
        return ran.code and await finish(self._read_end(ran))

    async def clear(self) -> None:
        """See HookPlace. One question to systemd where nothing was left."""
        try:
            async with asyncio.timeout(self._end_s):
                if await self._is_gone():
                    return
                await self._stop()
                while not await self._is_gone():
                    await self._clock.sleep(_LOOK_AGAIN_S)
        except TimeoutError as exc:
            raise HookNotRunError(f"{self._unit}, which an earlier agent left, does not end") from exc

    def _options(self, timeout_s: float) -> list[str]:
        properties = {
            "DefaultDependencies": "no",  # at shutdown the agent ends it: it was not the hook that failed
            "KillSignal": "SIGKILL",
            "TimeoutStopSec": ceil(self._end_s),
            "TimeoutStartSec": ceil(timeout_s) + _GUARD_S,
            "IgnoreSIGPIPE": "no",
        }
        return [
            *("--quiet", "--wait", "--pipe", "--no-ask-password", "--service-type=oneshot"),
            f"--unit={self._unit}",
            f"--description=releasehand: hook of {self._instance}",
            *(f"--property={name}={value}" for name, value in properties.items()),
            "--",
        ]

    async def _end(self, tool: asyncio.Task[Ran]) -> None:
        """Until nothing of the hook is left. Stopped again and again while systemd-run waits: a unit that it
        is only about to start would be missed by one stop."""
        try:
            async with asyncio.timeout(self._end_s):
                while not tool.done():
                    await self._stop()
                    await asyncio.wait([tool], timeout=_STOP_AGAIN_S)
        except (TimeoutError, HookNotRunError) as exc:
            log = get_log(__name__, instance_id=self._instance)
            why = str(exc) or f"it did not end within {self._end_s:g} s"
            log.error("hook could not be ended; the next one waits", unit=self._unit, reason=why)  # noqa: TRY400
        finally:
            tool.cancel()
            await asyncio.wait([tool])

    async def _read_end(self, ran: Ran) -> int:
        """systemd-run's own code does not tell a signal, nor its own failures from the hook's."""
        shown = await self._show()
        await self._call("reset-failed", "--", self._unit)
        result, how = shown.get("Result", "?"), shown.get("ExecMainCode", "0")
        if shown.get("LoadState") != "loaded":
            raise HookNotRunError(f"systemd-run ended with {ran.code}, and there is no unit {self._unit}")
        if how == "0":
            raise HookNotRunError(f"its unit ended before it began, with result {result}")
        if result == "timeout":
            raise TimeoutError
        status = int(shown.get("ExecMainStatus", "0"))
        return status if how == _EXITED else -status

    async def _stop(self) -> None:
        await self._call("stop", "--", self._unit)  # fails where there is none, which is fine
        await self._call("reset-failed", "--", self._unit)

    async def _is_gone(self) -> bool:
        """Asked so that systemd does not load what it had forgotten."""
        return not await self._ask("list-units", "--all", "--plain", "--no-legend", "--", self._unit)

    async def _show(self) -> dict[str, str]:
        shown = await self._ask("show", f"--property={_PROPERTIES}", "--", self._unit)
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    async def _ask(self, verb: str, *arguments: str) -> str:
        told = await self._call(verb, *arguments)
        if told.code != 0:
            raise HookNotRunError(f"systemctl {verb} ended with {told.code}: {told.output}")
        return told.output

    async def _call(self, *arguments: str) -> Ran:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await run_tool([*self._systemctl, *arguments], environment=SYSTEMD_ENVIRONMENT)
        except TimeoutError as exc:
            raise HookNotRunError(f"systemd did not answer within {ANSWER_S:g} s") from exc
        except OSError as exc:
            raise HookNotRunError(f"{self._systemctl[0]} does not start: {exc.strerror}") from exc


def _exactly(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """`command` for ExecStart, with `environment` and nothing that systemd would add. systemd-run looks for
    no program but env(1): it sees the agent's file system, where the hook may be hidden."""
    words = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
    return [word.replace("$", "$$") for word in words]  # systemd would expand it (systemd.service(5))
