"""What the journal holds of one attempt: enough to go on after any crash, and to answer for it afterwards."""

from pydantic import BaseModel, ConfigDict

from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase, TaskResult
from shared.attempt import CANCELLABLE, LIVE
from shared.frames import AttemptEnd, Execute, Ref

from .instant import Instant


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
    deadline: Instant  # of the task's budget: `activating` is not entered after it
    bound: Instant | None = None  # of the activation, or of the revert, while one of them runs
    target: str = ""  # the release to activate, "" until it is known
    sha256: str = ""  # the package's, "" until it is known
    previous: str | None = None  # active before the activation, "" for nothing; None until `activating`
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


def order_of(ref: Ref) -> tuple[int, int]:
    """What orders the attempts of one instance: generations order tasks, numbers order their attempts."""
    return ref.generation, ref.attempt


def name_of(ref: Ref) -> str:
    """A ref in one word, for keys and logs."""
    return f"{ref.instance_id}/{ref.generation}.{ref.task}.{ref.attempt}"
