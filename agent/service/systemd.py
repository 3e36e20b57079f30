"""Services that systemd runs: `systemctl` by argv, never a shell; the host's owner names the unit."""

from collections.abc import Sequence
from typing import Final

from agent.errors import ActivationError, NotAllowedError
from agent.observation import Observation, ProcessMark
from agent.tool import SYSTEMD_ENVIRONMENT, Ran, run_tool
from releasehand.model.status import ServiceState

_PROPERTIES: Final = "LoadState,ActiveState,SubState,InvocationID,MainPID,NRestarts,Result"
CHANGING_VERBS: Final = ("restart", "stop", "reset-failed")
"""What is asked of systemd beside looking; where the agent is not root, polkit has to allow these."""
_REFUSALS: Final = ("Interactive authentication required", "Access denied")  # polkit says no, or is missing
_ASK_POLKIT: Final = (
    "polkit does not let this account do that: what `releasehand-agent config polkit` prints belongs into"
    " /etc/polkit-1/rules.d/50-releasehand-agent.rules"
)
_NOT_LOADED: Final = 5  # systemctl's exit code for a unit that systemd does not know: it does not run either
_STATES: Final = {
    "active": ServiceState.RUNNING,
    "reloading": ServiceState.RUNNING,
    "refreshing": ServiceState.RUNNING,
    "inactive": ServiceState.STOPPED,
    "deactivating": ServiceState.STOPPED,
    "failed": ServiceState.FAILED,
}


class SystemdService:
    """One unit."""

    sees_process: Final = True

    def __init__(self, unit: str, *, systemctl: Sequence[str] = ("systemctl",)) -> None:
        """`systemctl` is the argv of the tool, for hosts that have it elsewhere or need `--user`."""
        self._unit, self._systemctl = unit, tuple(systemctl)

    async def restart(self) -> ProcessMark:
        """See ServiceManager. A Type=notify unit is up on return. Earlier crashes are forgiven."""
        await self._run("reset-failed", "--", self._unit)  # fails for a unit not loaded yet, which is fine
        await self._act("restart")
        seen = await self.observe()
        if seen.mark is None:
            raise ActivationError(f"restart {self._unit}", f"it does not run afterwards: {seen.detail}")
        return seen.mark

    async def stop(self) -> None:
        """See ServiceManager."""
        await self._act("stop", fine=_NOT_LOADED)

    async def start_after_boot(self) -> bool:
        """See ServiceManager. systemd starts what is enabled; whether a unit is, its owner decides."""
        return False

    async def observe(self) -> Observation:
        """See ServiceManager. The mark is the InvocationID, which systemd changes with every start."""
        try:
            shown = await self._run("show", f"--property={_PROPERTIES}", "--", self._unit)
        except ActivationError as exc:
            return Observation(ServiceState.UNKNOWN, None, str(exc))
        if shown.code != 0:
            return Observation(
                ServiceState.UNKNOWN, None, f"systemctl show ended with {shown.code}: {shown.output}"
            )
        found = dict(line.split("=", 1) for line in shown.output.splitlines() if "=" in line)
        active, sub = found.get("ActiveState", ""), found.get("SubState", "")
        detail = (
            f"{active} ({sub}), result {found.get('Result', '?')}, {found.get('NRestarts', '?')} restarts"
        )
        if found.get("LoadState") == "not-found":
            return Observation(ServiceState.UNKNOWN, None, f"systemd knows no unit {self._unit}")
        if active == "activating":  # Restart= waiting for its next try is a failure; a slow start is not
            state = ServiceState.FAILED if sub.startswith("auto-restart") else ServiceState.UNKNOWN
        else:
            state = _STATES.get(active, ServiceState.UNKNOWN)
        runs = state is ServiceState.RUNNING or (active == "activating" and state is ServiceState.UNKNOWN)
        invocation = found.get("InvocationID", "")
        return Observation(state, ProcessMark(invocation) if runs and invocation else None, detail)

    async def _act(self, verb: str, *, fine: int = 0) -> None:
        ran = await self._run(verb, "--", self._unit)
        if ran.code not in {0, fine}:
            what = f"{verb} {self._unit}"
            if any(words in ran.output for words in _REFUSALS):
                raise NotAllowedError(what, _ASK_POLKIT, ran.output)
            raise ActivationError(what, f"systemctl ended with {ran.code}", ran.output)

    async def _run(self, *arguments: str) -> Ran:
        try:
            return await run_tool([*self._systemctl, *arguments], environment=SYSTEMD_ENVIRONMENT)
        except OSError as exc:
            raise ActivationError(
                f"use {self._unit}", f"{self._systemctl[0]} does not start: {exc.strerror}"
            ) from exc
