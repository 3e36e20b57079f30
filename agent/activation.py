"""From one release to another on a running host, and back: the part of an attempt that production feels.

    pre-hooks -> switch -> restart  (or stop -> switch -> start)      activating
    settle -> check -> post-hooks -> read `current` back              checking
    the same for the release before, unless nothing was changed yet   reverting

Each step is safe to repeat after a crash; hooks have to be. Nothing here decides what follows an error
(agent.runner)."""

import asyncio
from collections.abc import Callable, Sequence

from agent.core.record import AttemptRecord
from agent.errors import ActivationError, HookFailedError, NotAllowedError
from agent.finish import finish
from agent.hooks import Account, Action, Hook, Occasion, end_leftover, run_hooks
from agent.instance import Instance
from agent.instance_config import HookSection, Restart
from agent.observation import Observation, ProcessMark
from releasehand.model.status import ServiceState
from shared.logs import get_log


class Activation:
    """One attempt's; `account` tells what the hooks printed."""

    def __init__(self, instance: Instance, *, checkpoint: Callable[[str], None]) -> None:
        """`checkpoint` is told the name of each effect right after it happened."""
        self._instance, self._checkpoint = instance, checkpoint
        self.account = Account()
        self._restarted = False
        self._mark: ProcessMark | None = None

    async def process_now(self) -> str | None:
        """Which process runs, "" for none; None if that cannot be told."""
        return _identity(await self._instance.observe())

    async def activate(self, record: AttemptRecord) -> None:
        """Until the new release was started. Raises AttemptError."""
        await self._end_leftover(record)
        section = self._instance.section
        occasion = await self._occasion(record, Action.ACTIVATE)
        await self._run_hooks("pre-hook", section.pre_hook, occasion)
        try:
            await self._change_over(record.target)
        except NotAllowedError:
            await self._switch(record.previous or "")  # as it was, so that the way back finds nothing to do
            raise

    async def check(self, record: AttemptRecord) -> None:
        """Until it is known to be well, and to be the one that is linked. Raises AttemptError."""
        await self._end_leftover(record)
        await self._wait_until_up(record.command.version)
        occasion = await self._occasion(record, Action.ACTIVATE)
        await self._run_hooks("post-hook", self._instance.section.post_hook, occasion)
        await self._read_back(record.target)

    async def revert(self, record: AttemptRecord) -> AttemptRecord:
        """Until the release before is back and well; the record says whether it had to be brought back.

        A service that still is what it was before the first pre-hook is neither restarted nor checked: what
        failed was never its own doing. Raises AttemptError."""
        await self._end_leftover(record)
        previous = record.previous or ""
        untouched = await self._is_untouched(record)
        if not previous:
            if not untouched:
                await self._remove_first()
        else:
            occasion = await self._occasion(record, Action.REVERT)
            if not untouched:
                await self._run_pre_hooks_anyway(occasion)
                await self._change_over(previous)
                await self._wait_until_up(occasion.version)
            # They bring back what the pre-hooks took away.
            await self._run_hooks("post-hook", self._instance.section.post_hook, occasion)
        await self._read_back(previous)
        return record.model_copy(update={"untouched": untouched})

    async def _change_over(self, release: str) -> None:
        if self._instance.section.restart is Restart.STOP_SWITCH_START:
            await self._instance.service.stop()
            self._checkpoint("stopped")
        await self._switch(release)
        self._mark = await self._instance.service.restart()
        self._restarted = True
        self._checkpoint("restarted")

    async def _switch(self, release: str) -> None:
        await finish(asyncio.to_thread(self._instance.root.point_current, release or None))
        self._checkpoint("switched")

    async def _remove_first(self) -> None:
        try:
            await self._instance.service.stop()
        finally:
            await self._switch("")

    async def _wait_until_up(self, version: str) -> None:
        service = self._instance.service
        if not self._restarted:
            # The agent was started again. A process that runs now was started after the switch; if none does,
            # that may be the fault of what stopped the agent (a reboot), not the release's.
            self._mark = (await service.observe()).mark or await service.restart()
            self._restarted = True
        await self._instance.check.wait(expected_version=version, alive=service.observe, mark=self._mark)
        self._checkpoint("checked")

    async def _read_back(self, expected: str) -> None:
        if (found := await self._instance.current()) != expected:
            raise ActivationError(
                f"activate {expected or 'nothing'}", f"afterwards current names {found or 'nothing'}"
            )

    async def _is_untouched(self, record: AttemptRecord) -> bool:
        if await self._instance.current() != (record.previous or ""):
            return False
        if not self._instance.service.sees_process:
            return True
        before = record.process_before
        return before is not None and await self.process_now() == before

    async def _end_leftover(self, record: AttemptRecord) -> None:
        """Nothing goes on beside a hook of an agent that was killed in this attempt."""
        if record.starts:
            await end_leftover(self._instance.hook_place)

    async def _run_hooks(self, kind: str, sections: Sequence[HookSection], occasion: Occasion) -> None:
        hooks = [Hook(one.command, one.timeout_s) for one in sections]
        await run_hooks(kind, hooks, occasion, self.account, self._instance.hook_place)

    async def _run_pre_hooks_anyway(self, occasion: Occasion) -> None:
        """A pre-hook may keep a release from coming, but not the one before from coming back."""
        try:
            await self._run_hooks("pre-hook", self._instance.section.pre_hook, occasion)
        except HookFailedError as exc:
            log = get_log(__name__, instance_id=self._instance.id)
            log.error("pre-hook failed on the way back, which goes on", reason=str(exc))  # noqa: TRY400

    async def _occasion(self, record: AttemptRecord, action: Action) -> Occasion:
        section, root = self._instance.section, self._instance.root
        new, old = record.command.version, await self._version_of(record.previous or "")
        version, before = (new, old) if action is Action.ACTIVATE else (old, new)
        release = record.target if action is Action.ACTIVATE else record.previous or ""
        return Occasion(
            instance=section.id,
            service=section.service,
            port=section.port,
            version=version,
            release_dir=root.release_path(release),
            previous_version=before,
            action=action,
        )

    async def _version_of(self, release: str) -> str:
        return next((one.version for one in await self._instance.kept() if one.release == release), "")


def _identity(seen: Observation) -> str | None:
    if seen.mark is not None:
        return seen.mark.identity
    return None if seen.state is ServiceState.UNKNOWN else ""
