"""What an instance was told to do and has not ended: the attempt at work, those behind it, and who may
come next."""

import asyncio
from collections import deque
from collections.abc import Callable

from agent.core.fencing import (
    Accept,
    AnswerRecorded,
    LetFinish,
    RecordCancelled,
    RefuseStale,
    Standing,
    Stop,
    decide_cancel,
    decide_execute,
)
from agent.core.instant import Instant
from agent.core.record import AttemptRecord, Failure, begin, order_of
from agent.ending import change_for
from agent.instance import Instance
from agent.journal import Change
from releasehand.model.codes import FailureCode
from releasehand.model.status import OperationKind, Phase
from shared.attempt import Outcome
from shared.frames import Execute, Ref
from shared.logs import get_log


class Backlog:
    """The attempts of one instance that have not ended. Commands come in by `execute` and `cancel`; the
    runner takes the next by `take` and keeps `working` equal to what it does.

    What is in memory is what the journal says; a command that raises JournalError changed neither."""

    def __init__(self, instance: Instance, *, now: Callable[[], Instant]) -> None:
        self._instance, self._now = instance, now
        self._log = get_log(__name__, instance_id=instance.id, service=instance.section.service)
        self._deciding = asyncio.Lock()
        self._newest: Ref | None = None
        self._waiting: deque[AttemptRecord] = deque()
        self._filled = asyncio.Event()
        self.working: AttemptRecord | None = None
        self.stop = asyncio.Event()
        """Set when the attempt at work is to end, if it still can."""

    @property
    def generation(self) -> int:
        """The highest accepted here, 0 before the first."""
        return self._newest.generation if self._newest else 0

    @property
    def unfinished(self) -> list[AttemptRecord]:
        """Attempts that have not ended, the one at work first."""
        return [*([self.working] if self.working else []), *self._waiting]

    def restore(self, records: list[AttemptRecord]) -> None:
        """Take over what the journal holds, oldest first, after a start of the agent."""
        for record in records:
            self._raise_newest(record.ref)
            if record.live:
                self._put(record)

    async def take(self) -> AttemptRecord:
        """Wait for the next attempt; it is the one at work on return."""
        while True:
            await self._filled.wait()
            async with self._deciding:
                if self._waiting:
                    self.stop.clear()
                    self.working = self._waiting.popleft()
                    if self._waiting and self.working.cancellable:
                        self.stop.set()  # it was replaced before the agent was killed
                    return self.working
                self._filled.clear()

    async def execute(self, command: Execute) -> None:
        """Accept, answer or refuse; durable on return. Raises JournalError."""
        async with self._deciding:
            ref = command.ref
            decision = decide_execute(
                ref,
                known=await self._phase_of(ref),
                newest=self._newest,
                unfinished=[Standing(one.ref, one.phase) for one in self.unfinished],
            )
            match decision:
                case Accept(supersede=supersede):
                    await self._accept(command, supersede)
                case AnswerRecorded():
                    await self._instance.repeat_report(ref)
                case RefuseStale():
                    why = f"generation {self.generation} of this instance was accepted before this command"
                    failure = Failure(code=FailureCode.STALE_COMMAND, message=why)
                    await self._end_at_once(begin(command, self._now()), Outcome.FAILED, failure)

    async def cancel(self, ref: Ref) -> None:
        """End the attempt unless it is past the point of no return; a late `execute` of it will not run.

        Durable on return, except for the attempt at work, whose runner will end it. Raises JournalError."""
        async with self._deciding:
            match decide_cancel(await self._phase_of(ref)):
                case Stop():
                    await self._stop_one(ref)
                case LetFinish():
                    self._log.info("cancel came after the point of no return", **_numbers(ref))
                case AnswerRecorded():
                    await self._instance.repeat_report(ref)
                case RecordCancelled():
                    blank = Execute(
                        ref=ref,
                        kind=OperationKind.DEPLOYMENT,
                        operation_id="",
                        service=self._instance.section.service,
                        version="",
                        seconds_left=0,
                    )
                    await self._end_at_once(begin(blank, self._now()), Outcome.CANCELLED)
                    self._raise_newest(ref)

    async def _accept(self, command: Execute, supersede: tuple[Ref, ...]) -> None:
        now, journal = self._now(), self._instance.journal
        gone = [one for one in self._waiting if one.ref in supersede]
        changes = [await change_for(self._instance, one.moved(Outcome.CANCELLED, now)) for one in gone]
        known = await journal.attempts(self._instance.id)
        starts = max((one.starts for one in known if one.ref.generation == command.ref.generation), default=0)
        record = begin(command, now, starts=starts)
        await self._instance.commit(*changes, Change(record))
        for one in gone:
            self._waiting.remove(one)
        if self.working is not None and self.working.ref in supersede:
            self.stop.set()
        self._raise_newest(command.ref)
        self._put(record)
        log = self._log.bind(deploy_id=command.operation_id, version=command.version)
        log.info("command was accepted", **_numbers(command.ref))

    async def _stop_one(self, ref: Ref) -> None:
        if self.working is not None and self.working.ref == ref:
            self.stop.set()
            return
        for one in [one for one in self._waiting if one.ref == ref]:
            await self._end_at_once(one, Outcome.CANCELLED)
            self._waiting.remove(one)

    async def _end_at_once(
        self, record: AttemptRecord, outcome: Outcome, failure: Failure | None = None
    ) -> None:
        ended = record.model_copy(update={"failure": failure}).moved(outcome, self._now())
        await self._instance.commit(await change_for(self._instance, ended))
        self._log.info("attempt ended before it began", phase=ended.phase, **_numbers(record.ref))

    async def _phase_of(self, ref: Ref) -> Phase | None:
        records = await self._instance.journal.attempts(self._instance.id)
        return next((one.phase for one in records if one.ref == ref), None)

    def _put(self, record: AttemptRecord) -> None:
        self._waiting.append(record)
        self._filled.set()

    def _raise_newest(self, ref: Ref) -> None:
        if self._newest is None or order_of(ref) > order_of(self._newest):
            self._newest = ref


def _numbers(ref: Ref) -> dict[str, int]:
    return {"generation": ref.generation, "task": ref.task, "attempt": ref.attempt}
