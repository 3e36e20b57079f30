"""All instances of this agent: commands go to the right one, and what is true of each is read from its
disk."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from agent.core.record import AttemptRecord
from agent.instance import Instance
from agent.runner import Runner, Tools
from releasehand.model.status import Phase
from shared.frames import (
    Execute,
    InstancePulse,
    InstanceState,
    OpenAttempt,
    Progress,
    Ref,
    RefusedInstance,
    Wanted,
)
from shared.logs import get_log
from shared.tasks import TaskGroup

T = TypeVar("T")

log = get_log(__name__)


class Executor:
    """Call `recover` before anything else, then keep `run` running. One instance's trouble leaves the
    others alone."""

    def __init__(self, instances: Iterable[Instance], tools: Tools) -> None:
        self._runners = {instance.id: Runner(instance, tools) for instance in instances}
        self._refused: Mapping[str, str] = {}

    async def recover(self) -> None:
        """Decide how everything unfinished goes on; durable on return. Raises JournalError."""
        for runner in self._runners.values():
            await runner.recover()

    async def run(self) -> None:
        """Work until cancelled; without an instance, wait until then."""
        if not self._runners:  # a new host's agent is there all the same; its daemon takes an end for a fault
            await asyncio.Event().wait()
        async with TaskGroup() as group:
            for runner in self._runners.values():
                group.create_task(runner.run(), name=f"runner {runner.instance.id}")

    # commands

    async def execute(self, command: Execute) -> None:
        """Take a command; what becomes of it is reported through the journal. Raises JournalError."""
        runner = self._runner_for(command.ref)
        if runner is not None:
            await runner.backlog.execute(command)

    async def cancel(self, ref: Ref) -> None:
        """Take a cancel, as `execute`. Raises JournalError."""
        runner = self._runner_for(ref)
        if runner is not None:
            await runner.backlog.cancel(ref)

    async def reconcile(self, wanted: Sequence[Wanted], refused: Sequence[RefusedInstance]) -> None:
        """Fall in with what the controller says at the start of a link: give up what it does not want
        any more, as far as that is still possible, and work on no instance that it gives to another
        agent. Raises JournalError."""
        self._refused = {one.instance_id: one.reason for one in refused}
        for instance_id, reason in self._refused.items():
            log.error(
                "instance was refused: nothing will be run for it here",
                instance_id=instance_id,
                reason=reason,
            )
        wishes = {(one.instance_id, one.generation, one.task, one.attempt): one for one in wanted}
        for record in self.unfinished:
            ref = record.ref
            wish = wishes.get((ref.instance_id, ref.generation, ref.task, ref.attempt))
            if record.cancellable and (wish is None or wish.cancel or ref.instance_id in self._refused):
                await self._runners[ref.instance_id].backlog.cancel(ref)

    def _runner_for(self, ref: Ref) -> Runner | None:
        if ref.instance_id in self._refused:
            reason = self._refused[ref.instance_id]
            log.error(
                "command for a refused instance was ignored", instance_id=ref.instance_id, reason=reason
            )
            return None
        runner = self._runners.get(ref.instance_id)
        if runner is None:
            log.error("command for an unknown instance was ignored", instance_id=ref.instance_id)
        return runner

    # what is true

    @property
    def unfinished(self) -> list[AttemptRecord]:
        """The attempts of all instances that have not ended."""
        return [record for runner in self._runners.values() for record in runner.backlog.unfinished]

    def open_attempts(self) -> list[OpenAttempt]:
        """The unfinished ones, as `hello` tells them."""
        return [
            OpenAttempt(
                instance_id=one.ref.instance_id,
                generation=one.ref.generation,
                task=one.ref.task,
                attempt=one.ref.attempt,
                phase=one.phase,
            )
            for one in self.unfinished
        ]

    def progress(self) -> list[Progress]:
        """How far each download at work is."""
        return [
            runner.progress
            for runner in self._runners.values()
            if runner.progress is not None
            and runner.backlog.working is not None
            and runner.backlog.working.phase is Phase.DOWNLOADING
        ]

    async def states(self) -> list[InstanceState]:
        """Every instance as its disk and its service show it now. Raises JournalError."""
        return await _all(self._state(runner) for runner in self._runners.values())

    async def pulses(self) -> list[InstancePulse]:
        """The short form, for heartbeats. Raises JournalError."""
        return await _all(runner.instance.pulse() for runner in self._runners.values())

    async def _state(self, runner: Runner) -> InstanceState:
        instance, section = runner.instance, runner.instance.section
        pulse = await instance.pulse()
        _, kept, _ = await instance.live_now()
        # A report that still waits will say afterwards what was kept when it was written.
        waits = await instance.journal.acknowledged_n() < instance.journal.last_n
        instance.told.releases = None if waits else kept
        return InstanceState(
            instance_id=section.id,
            service=section.service,
            port=section.port,
            generation=runner.backlog.generation,
            active=pulse.active,
            releases=kept,
            state=pulse.state,
            reason=pulse.reason,
            broken=bool(await instance.journal.broken(section.id)),
            activate_timeout_s=section.activate_timeout_s,
            revert_timeout_s=section.revert_timeout_s,
            metadata=section.metadata,
        )


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, worked on together, in their order. Raises the first JournalError."""
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # the journal is one for all: the others say the same
    return [task.result() for task in tasks]
