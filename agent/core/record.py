"""What the journal holds of one attempt: enough to go on after any crash, and to answer for it afterwards."""

from math import isfinite
from typing import Final

from pydantic import BaseModel, ConfigDict

from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase, TaskResult
from shared.attempt import CANCELLABLE, LIVE, Outcome, advance
from shared.frames import AttemptEnd, Execute, Move, Ref

from .instant import Instant

MAX_BUDGET_S: Final = 366 * 86_400.0


class Failure(BaseModel):
    """Why an attempt cannot go on. `message` is for people and holds no secret."""

    model_config = ConfigDict(frozen=True)

    code: FailureCode
    message: str


class AttemptRecord(BaseModel):
    """One attempt as the host knows it; a new value for each move, never changed in place."""

    model_config = ConfigDict(frozen=True)

    command: Execute
    phase: Phase
    entered_at: Instant
    left: Phase | None = None  # the phase before, None when the command was just accepted
    outcome: Outcome = Outcome.OK  # by which it was left
    duration_s: float = 0  # how long it took
    deadline: Instant  # of the task's budget: `activating` is not entered after it
    bound: Instant | None = None  # of the activation, or of the revert, while one of them runs
    target: str = ""  # the release to activate, "" until it is known
    sha256: str = ""  # the package's, "" until it is known
    previous: str | None = None  # active before the activation, "" for nothing; None until `activating`
    process_before: str | None = None  # ran before the first pre-hook, "" for none; None: it cannot be told
    output_mark: str = ""  # where the service's output stood before the first pre-hook, "" if unknown
    untouched: bool = False  # the revert found link and process as they were before
    result: TaskResult | None = None
    starts: int = 0  # how often the agent started and found this unfinished
    failure: Failure | None = None  # why it failed, or why it reverts
    end: AttemptEnd | None = None  # there exactly when `phase` is terminal

    @property
    def ref(self) -> Ref:
        return self.command.ref

    @property
    def live(self) -> bool:
        return self.phase in LIVE

    @property
    def cancellable(self) -> bool:
        return self.phase in CANCELLABLE

    def moved(self, outcome: Outcome, now: Instant) -> "AttemptRecord":
        """The attempt in the phase that follows by `outcome`. Raises UnlistedMoveError."""
        changes = {
            "phase": advance(self.phase, outcome),
            "left": self.phase,
            "outcome": outcome,
            "duration_s": max(0.0, self.entered_at.seconds_to(now)),
            "entered_at": now,
        }
        return self.model_copy(update=changes)

    def report(self) -> Move:
        """The attempt's newest move, to be numbered by the journal."""
        ref = self.ref
        return Move(
            instance_id=ref.instance_id,
            generation=ref.generation,
            task=ref.task,
            attempt=ref.attempt,
            n=1,
            at=self.entered_at.wall,
            left=self.left,
            outcome=self.outcome,
            entered=self.phase,
            duration_s=self.duration_s,
            end=self.end,
        )


def begin(command: Execute, now: Instant, *, starts: int = 0) -> AttemptRecord:
    """The attempt that `command`, accepted at `now`, asks for."""
    left = command.seconds_left
    budget_s = min(max(left, 0.0), MAX_BUDGET_S) if isfinite(left) else 0.0
    return AttemptRecord(
        command=command, phase=Phase.QUEUED, entered_at=now, deadline=now.after(budget_s), starts=starts
    )


def order_of(ref: Ref) -> tuple[int, int]:
    """What orders the attempts of one instance: generations order tasks, numbers order their attempts."""
    return ref.generation, ref.attempt


def name_of(ref: Ref) -> str:
    """A ref in one word, for keys and logs."""
    return f"{ref.instance_id}/{ref.generation}.{ref.task}.{ref.attempt}"
