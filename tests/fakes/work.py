"""Tasks and reports to start a test from: what the test says of them, everything else being ordinary."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core.task import Task, TaskMove, dispatch
from releasehand.model import FailureCode, OperationKind, Phase, TaskResult, WaitingFor
from shared.attempt import TERMINAL, TRANSITIONS, Outcome
from shared.frames import Active, AttemptEnd, Kept, Move

T0 = datetime(2030, 1, 1, 12, tzinfo=UTC)
AGENT = "agent-1"
INSTANCE = "user-1"
TIMEOUT_S = 300
BOUND_S = 240.0
"""Both bounds of the host together, as it said in `hello`."""


def at(seconds: float) -> datetime:
    """So many seconds after acceptance."""
    return T0 + timedelta(seconds=seconds)


def make_task(**said: Any) -> Task:
    """A task that was accepted at T0 and never dispatched, with three retries."""
    values: dict[str, Any] = {
        "id": 7,
        "operation": 1,
        "kind": OperationKind.DEPLOYMENT,
        "operation_id": "d1",
        "service": "user",
        "instance_id": INSTANCE,
        "agent_id": AGENT,
        "generation": 4,
        "target_version": "v2",
        "package_url": "https://origin.example/v2.tar.gz",
        "package_sha256": "",
        "source_sha256": "",
        "force": False,
        "accepted_at": T0,
        "deadline_at": at(TIMEOUT_S),
        "activation_bound_s": BOUND_S,
        "retries_left": 3,
        "updated_at": T0,
        "closes_at": at(TIMEOUT_S),
    }
    return Task(**(values | said))


def make_dispatched(**said: Any) -> Task:
    """The same, with its first attempt on the host since second 1."""
    move: TaskMove = dispatch(make_task(**said), at(1))
    return move.after


def make_backoff(**said: Any) -> Task:
    """The same after its first attempt failed: the next may start at second 5."""
    said = {"phase": Phase.FAILED, "waiting_for": WaitingFor.RETRY_BACKOFF, "retry_at": at(5)} | said
    cut = FailureCode.DOWNLOAD_FAILED
    failed: dict[str, Any] = {"error_code": cut, "error_message": "cut", "last_code": cut, "retries_left": 2}
    return replace(make_dispatched(), **({"closes_at": at(TIMEOUT_S)} | failed | said))


def make_end(code: FailureCode | None = None, message: str = "", *, live: str = "v1") -> AttemptEnd:
    """What an attempt says at its end; `live` is the version that is active then."""
    active = Active(release=f"{live}-{'ab' * 6}", version=live, sha256="ab" * 32) if live else Active()
    kept = [Kept(release=active.release, version=live, sha256=active.sha256, good=True)] if live else []
    result = TaskResult.DOWNLOADED if code is None else None
    return AttemptEnd(code=code, message=message, result=result, active=active, releases=kept)


def make_report(
    entered: Phase, *, task: Task, n: int = 1, end: AttemptEnd | None = None, **said: Any
) -> Move:
    """A report that `task`'s attempt entered a phase, by the first move of the table that leads there."""
    left: Phase | None
    left, outcome = next((key for key, to in TRANSITIONS.items() if to is entered), (None, Outcome.OK))
    if entered in TERMINAL and end is None:
        end = (
            make_end(live="v2")
            if entered is Phase.DONE
            else make_end(FailureCode.CHECK_FAILED, "it is not well")
        )
    values: dict[str, Any] = {
        "instance_id": task.instance_id,
        "generation": task.generation,
        "task": task.id,
        "attempt": task.attempt,
        "n": n,
        "at": at(2),
        "left": left,
        "outcome": outcome,
        "entered": entered,
        "end": end,
    }
    return Move(**(values | said))
