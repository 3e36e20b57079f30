"""Runs the attempts of one instance, one at a time, phase by phase: each is written down before it is
done."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NoReturn

from agent.backlog import Backlog
from agent.core.instant import Instant
from agent.core.record import AttemptRecord, Failure
from agent.core.recovery import MAX_STARTS, Resume, Shown, decide_resume, what_shows
from agent.core.tail import compose_tail
from agent.core.wording import describe_broken, shorten
from agent.ending import change_for, restarted_service
from agent.hooks import end_leftover
from agent.instance import Instance
from agent.journal import JournalError
from agent.retention import retain
from agent.steps import Checkpoint, Fetcher, Steps
from agent.unpack import Limits
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase
from shared.attempt import TERMINAL, Outcome
from shared.clock import Clock
from shared.errors import AttemptError
from shared.frames import MAX_LOG_TAIL_CHARS, Progress
from shared.logs import Log, get_log
from shared.race import race

JOURNAL_RETRY_S: Final = 1.0
TIDY_S: Final = 1.0
MAX_NOTES: Final = 50
MAX_NOTE_CHARS: Final = 500
HOOKS_TITLE: Final = "the hooks' output"


@dataclass(frozen=True)
class Tools:
    """What all runners of an agent share."""

    fetcher: Fetcher
    clock: Clock
    boot_id: str
    limits: Limits = field(default_factory=Limits)
    checkpoint: Checkpoint = lambda _: None

    def now(self) -> Instant:
        return Instant(boot_id=self.boot_id, boot_s=self.clock.monotonic(), wall=self.clock.now())


@dataclass(frozen=True)
class Passed:
    """How a phase was left, and what was learned in it."""

    outcome: Outcome
    record: AttemptRecord
    failure: Failure | None = None


class Runner:
    """Call `recover` once, then keep `run` running; `backlog` takes commands meanwhile."""

    def __init__(self, instance: Instance, tools: Tools) -> None:
        self.instance = instance
        self.backlog = Backlog(instance, now=tools.now)
        self.progress: Progress | None = None
        """How far the download at work is; None when there is none."""
        self._tools = tools
        self._steps: Steps
        self._tidying: asyncio.Task[None] | None = None
        self._notes: deque[str] = deque(maxlen=MAX_NOTES)

    async def recover(self) -> None:
        """Make the root usable and decide how unfinished attempts go on; durable on return.

        A root that cannot be used is told in every answer about the instance, and is no reason not to start.
        Raises JournalError."""
        try:
            await asyncio.to_thread(self.instance.root.prepare)
            await asyncio.to_thread(self.instance.root.clear_staging)
            await self.instance.adopt()
        except AttemptError as exc:
            log = get_log(__name__, instance_id=self.instance.id)
            log.error("root could not be made ready", reason=str(exc))  # noqa: TRY400 - no bug of ours
        records = await self.instance.journal.attempts(self.instance.id)
        unfinished = [record for record in records if record.live]
        if unfinished:
            await self._end_leftover_hook()
            # Only the oldest was at work: the others waited, and did not bring the agent down.
            [counted] = await self.instance.journal.count_starts(unfinished[:1])
            resumed = await self._resume(counted)
            records = [resumed if one.ref == resumed.ref else one for one in records]
        self.backlog.restore(records)
        if not any(record.live and not record.cancellable for record in records):
            await self._start_after_boot()  # else the attempt at work does what is needed

    async def _end_leftover_hook(self) -> None:
        """One that does not end is no reason not to start: the attempt meets it again before it goes on."""
        try:
            await end_leftover(self.instance.hook_place)
        except AttemptError as exc:
            log = get_log(__name__, instance_id=self.instance.id)
            log.error("hook of the agent before could not be ended", reason=str(exc))  # noqa: TRY400

    async def _start_after_boot(self) -> None:
        log = get_log(__name__, instance_id=self.instance.id)
        try:
            if await self.instance.service.start_after_boot():
                log.warning("service was started, as it ran when the host went down")
        except (AttemptError, OSError) as exc:
            log.error("service could not be started after the host came up", reason=str(exc))  # noqa: TRY400

    async def run(self) -> NoReturn:
        """Carry out what was accepted, until cancelled; the attempt at work then is left to the next
        start."""
        while True:
            record = await self.backlog.take()
            await self._end_tidying()  # of an attempt that was given up at the start
            self._notes.clear()
            self._steps = self._new_steps(record)
            try:
                while record.live:
                    record = await self._pass_phase(record)
                    self.backlog.working = record
            finally:
                await self._end_tidying()
                await self._tidy()
            self.backlog.working, self.progress = None, None
            if record.phase in {Phase.DONE, Phase.REVERTED}:
                await self._retain()
            self._tools.checkpoint("idle")
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError  # it came together with an error, which was told in its stead

    async def _retain(self) -> None:
        """After the report: what is removed now, nobody waits for."""
        log = get_log(__name__, instance_id=self.instance.id)
        try:
            await retain(self.instance)
        except (AttemptError, JournalError) as exc:
            log.warning("old releases could not be removed; the next end tries again", reason=str(exc))

    # after a start

    async def _resume(self, record: AttemptRecord) -> AttemptRecord:
        try:
            shown = what_shows(record, await self.instance.current())
        except AttemptError:
            shown = Shown.OTHER
        action = decide_resume(record, shown)
        log = self._log_of(record).bind(current_shows=shown, starts=record.starts, action=action)
        if action is Resume.REDO:
            log.warning("phase ended", outcome="interrupted")  # so that each start of a phase has its end
            return self._with_new_bound(record)
        log.warning("unfinished attempt was found")
        version = record.command.version
        if record.starts >= MAX_STARTS:
            why = f"the agent was started {record.starts} times while it worked on {version}"
            failure = Failure(code=FailureCode.CRASH_LOOP, message=why)
        else:
            why = f"current was changed by somebody else while {version} was activated"
            failure = Failure(code=FailureCode.ACTIVATION_FAILED, message=why)
        self._steps = self._new_steps(record)
        return await self._move(Passed(Outcome.FAILED, record, failure))

    def _with_new_bound(self, record: AttemptRecord) -> AttemptRecord:
        """The time while no agent ran does not count, as long as the end is within what the controller
        waits for: an activation may begin until the deadline. A revert is always given its time."""
        now, section = self._tools.now(), self.instance.section
        if record.phase is Phase.REVERTING:
            return record.model_copy(update={"bound": now.after(section.revert_timeout_s)})
        start = now if now.seconds_to(record.deadline) > 0 else record.deadline
        return record.model_copy(update={"bound": start.after(section.activate_timeout_s)})

    # a phase

    async def _pass_phase(self, record: AttemptRecord) -> AttemptRecord:
        self._log_of(record).info("phase started")
        passed = await self._do_in_time(record)
        self._tools.checkpoint(f"{record.phase}:left")
        if record.cancellable and self.backlog.stop.is_set():
            passed = Passed(Outcome.CANCELLED, passed.record)
        return await self._move(passed)

    async def _do_in_time(self, record: AttemptRecord) -> Passed:
        """Do the phase within its bound; a cancel ends it too while it may."""
        limit = record.deadline if record.cancellable else record.bound
        left_s = self._tools.now().seconds_to(limit) if limit is not None else 0.0
        if left_s <= 0:
            return Passed(Outcome.FAILED, record, self._out_of_time(record))
        ends = [self._tools.clock.sleep(left_s), *([self.backlog.stop.wait()] if record.cancellable else [])]
        passed = await race(self._do(record), *ends)
        return passed or Passed(Outcome.FAILED, record, self._out_of_time(record))

    async def _do(self, record: AttemptRecord) -> Passed:
        try:
            outcome, record = await self._steps.run(record)
        except AttemptError as exc:
            return Passed(Outcome.FAILED, record, Failure(code=exc.code, message=str(exc)))
        except JournalError as exc:
            return Passed(Outcome.FAILED, record, Failure(code=FailureCode.HOST_ERROR, message=str(exc)))
        except Exception as exc:  # noqa: BLE001 - one instance's bug must not take the others' work down
            self._log_of(record).crash("phase met a bug")
            why = f"cannot go on: the agent met a bug ({type(exc).__name__}); its log has the details"
            return Passed(Outcome.FAILED, record, Failure(code=FailureCode.HOST_ERROR, message=why))
        return Passed(outcome, record)

    def _out_of_time(self, record: AttemptRecord) -> Failure:
        section, version = self.instance.section, record.command.version
        match record.phase:
            case Phase.ACTIVATING:
                why = f"{version} was not activated within {section.activate_timeout_s:g} s"
                return Failure(code=FailureCode.ACTIVATION_FAILED, message=why)
            case Phase.CHECKING:
                answer = self.instance.check.last_answer
                why = f"{version} was not up within {section.activate_timeout_s:g} s"
                why += f"; last answer: {answer}" if answer else ""
                return Failure(code=FailureCode.CHECK_FAILED, message=why)
            case Phase.REVERTING:
                why = f"it did not come up within {section.revert_timeout_s:g} s"
                return Failure(code=FailureCode.REVERT_FAILED, message=why)
            case _:
                why = f"the time for {version} was over while it was {record.phase}"
                return Failure(code=FailureCode.TIMEOUT, message=why)

    async def _move(self, passed: Passed) -> AttemptRecord:
        """Write down how the phase was left, before anything of the next one happens."""
        before, failure = passed.record, passed.failure
        if failure is not None and before.phase is Phase.REVERTING:
            failure = describe_broken(before.failure, failure)
        if failure is not None:
            before = before.model_copy(update={"failure": failure})
        record = before.moved(passed.outcome, self._tools.now())
        if record.phase in {Phase.ACTIVATING, Phase.REVERTING}:
            record = self._with_new_bound(record)
        log = self._log_of(before).bind(outcome=passed.outcome, duration_s=round(record.duration_s, 3))
        self._note(record, failure)
        if not record.live:
            if record.phase is Phase.CANCELLED:
                await self._withdraw(record)
            await self._begin_to_tidy()
        record = await self._write_down(record)
        self._tools.checkpoint(f"{record.phase}:entered")
        if failure is None:
            log.info("phase ended", entered=record.phase)
        else:
            log.warning("phase ended", entered=record.phase, code=failure.code, reason=failure.message)
            if record.phase is Phase.BROKEN:
                log.error("instance is broken: a person must look", code=failure.code)
        return record

    async def _write_down(self, record: AttemptRecord) -> AttemptRecord:
        """Commit the move. A disk that refuses holds the attempt where it is: what is not written is not
        done."""
        while True:
            try:
                change = await change_for(self.instance, record, log_tail=await self._log_tail(record))
                await self.instance.commit(change)
            except JournalError as exc:
                self._log_of(record).error("move could not be written down; trying again", reason=str(exc))
                await self._tools.clock.sleep(JOURNAL_RETRY_S)
            else:
                return change.record

    async def _withdraw(self, record: AttemptRecord) -> None:
        try:
            await self._steps.withdraw(record)
        except AttemptError as exc:
            self._log_of(record).warning("unused release could not be removed", reason=str(exc))

    async def _begin_to_tidy(self) -> None:
        """Nothing is left over when the end is told; but nobody waits until a large tree is deleted, for a
        cancel has five seconds."""
        self._tidying = asyncio.create_task(self._tidy())
        enough = asyncio.create_task(self._tools.clock.sleep(TIDY_S))
        try:
            await asyncio.wait([self._tidying, enough], return_when=asyncio.FIRST_COMPLETED)
        finally:
            enough.cancel()

    async def _end_tidying(self) -> None:
        if self._tidying is not None:
            await self._tidying
        self._tidying = None

    async def _tidy(self) -> None:
        try:
            await self._steps.clear()
        except AttemptError as exc:
            log = get_log(__name__, instance_id=self.instance.id)
            log.warning("staging could not be emptied; the next start tries again", reason=str(exc))

    # what people see

    def _new_steps(self, record: AttemptRecord) -> Steps:
        def show(done: int, total: int | None) -> None:
            self.progress = Progress(ref=record.ref, bytes_done=done, bytes_total=total or 0)

        tools = self._tools
        return Steps(
            self.instance, tools.fetcher, limits=tools.limits, progress=show, checkpoint=tools.checkpoint
        )

    def _note(self, record: AttemptRecord, failure: Failure | None) -> None:
        why = f": {failure.message}" if failure else ""
        when = record.entered_at.wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = (
            f"{when} {record.left} {record.outcome} after {record.duration_s:.3f} s, now {record.phase}{why}"
        )
        self._notes.append(shorten(line, MAX_NOTE_CHARS))

    async def _log_tail(self, record: AttemptRecord) -> str:
        if record.phase not in TERMINAL:
            return ""
        parts = [(HOOKS_TITLE, self._steps.account)]
        if restarted_service(record):
            output = self.instance.output
            title = f"the service's output since the activation began ({output.name})"
            told = await output.since(record.output_mark, flush=record.phase is not Phase.DONE)
            parts.insert(0, (title, told))
        return compose_tail(list(self._notes), parts, most=MAX_LOG_TAIL_CHARS)

    def _log_of(self, record: AttemptRecord) -> Log:
        command, ref = record.command, record.ref
        return get_log(
            __name__,
            deploy_id=command.operation_id,
            instance_id=ref.instance_id,
            service=command.service,
            version=command.version,
            generation=ref.generation,
            task=ref.task,
            attempt=ref.attempt,
            phase=record.phase,
        )
