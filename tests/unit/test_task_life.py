"""A task's whole life under anything that can happen: sends, reports of any kind, cancels, silence, time."""

from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.core.plan import SendAgain, SendCancel, Start, Surroundings, Wait, plan
from controller.core.report import Applied, Late, apply
from controller.core.task import TRANSITIONS, Task, TaskMove, cancel, closing_time, expire
from releasehand.model import FailureCode, Phase, Status, WaitingFor
from shared.attempt import PAST_NO_RETURN, TERMINAL
from shared.attempt import TRANSITIONS as PHASES
from shared.frames import Move
from tests.fakes.work import AGENT, BOUND_S, TIMEOUT_S, at, make_end, make_report, make_task

MAX_RETRIES = 3
LAST_CLOSING_TIME = at(TIMEOUT_S + BOUND_S + 30)


class TaskLife(RuleBasedStateMachine):
    """The row, moved as the daemon moves it: every change by compare-and-set from what it is."""

    task: Task
    now: datetime

    @initialize(retries=st.integers(0, MAX_RETRIES), force=st.booleans(), behind=st.booleans())
    def accept(self, retries: int, force: bool, behind: bool) -> None:
        self.task = make_task(retries_left=retries, force=force, behind=6 if behind else None)
        self.now = at(0)
        self.retries = retries
        self.dispatched = 0
        self.went_past = False

    def take(self, move: TaskMove | None) -> None:
        """Store a move. It must start from the row, be listed, and never leave an end."""
        if move is None:
            return
        assert move.before == self.task
        assert TRANSITIONS[move.before.status, move.event] is move.after.status
        if not move.before.is_open:
            assert move.after.completed_at == move.before.completed_at
        self.task = move.after
        self.went_past |= self.task.phase in PAST_NO_RETURN

    @rule(seconds=st.sampled_from([0, 0.5, 3, 30, 120]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(connected=st.booleans(), predecessor_open=st.booleans(), outcome_unknown=st.booleans())
    def dispatch(self, connected: bool, predecessor_open: bool, outcome_unknown: bool) -> None:
        action = plan(self.task, Surroundings(connected, predecessor_open, outcome_unknown), self.now)
        match action:
            case Start(move=move):
                assert connected
                assert not predecessor_open
                assert self.now < self.task.deadline_at
                assert self.task.cancel_asked_at is None
                self.dispatched += 1
                self.went_past = False
                self.take(move)
            case SendAgain(move=move) | Wait(move=move):
                self.take(move)
            case SendCancel():
                assert self.task.cancel_asked_at is not None

    @rule()
    def ask_to_cancel(self) -> None:
        self.take(cancel(self.task, self.now))

    @rule()
    def sweep(self) -> None:
        self.take(expire(self.task, self.now))

    @rule(
        step=st.sampled_from(sorted(PHASES)),
        code=st.sampled_from(sorted(FailureCode)),
        behind=st.integers(0, 2),
        chance=st.floats(0, 1, exclude_max=True),
    )
    def hear(self, step: tuple[Phase, object], code: FailureCode, behind: int, chance: float) -> None:
        """A report of any listed move, of this attempt or of an older one."""
        [entered] = {to for pair, to in PHASES.items() if pair == step}
        end = make_end(None if entered is Phase.DONE else code, "why") if entered in TERMINAL else None
        attempt = self.task.attempt - behind
        if attempt < 1:
            return
        report: Move = make_report(
            entered, task=self.task, left=step[0], outcome=step[1], attempt=attempt, end=end
        )
        effect = apply(self.task, report, agent_id=AGENT, now=self.now, chance=chance)
        if isinstance(effect, Applied | Late):
            assert behind == 0
            assert isinstance(effect, Applied) == self.task.is_open
            self.take(effect.move)

    @invariant()
    def an_open_task_closes_in_time(self) -> None:
        task = self.task
        assert task.closes_at <= LAST_CLOSING_TIME
        if task.is_on_host:
            assert task.closes_at >= closing_time(task, task.phase)
            if not self.went_past:
                assert task.closes_at == at(TIMEOUT_S + 30)
        elif task.is_open:
            assert task.closes_at == task.deadline_at

    @invariant()
    def an_end_says_when_and_a_failure_says_why(self) -> None:
        task = self.task
        assert (task.completed_at is None) == task.is_open
        if not task.is_open:
            assert (task.waiting_for, task.retry_at) == (None, None)
        if task.status is Status.FAILED:
            assert task.error_code is not None
            assert task.error_message
        if task.status is Status.COMPLETED:
            assert (task.error_code, task.error_message) == (None, "")

    @invariant()
    def attempts_are_counted_and_bounded(self) -> None:
        task = self.task
        assert task.attempt == self.dispatched <= self.retries + 1
        assert task.retries_left >= 0
        assert (task.started_at is None) == (task.attempt == 0)
        assert (task.retry_at is not None) == (task.waiting_for is WaitingFor.RETRY_BACKOFF)

    def teardown(self) -> None:
        """Whatever happened: with time alone it ends."""
        if hasattr(self, "task"):
            self.now = max(self.now, LAST_CLOSING_TIME)
            self.sweep()
            assert not self.task.is_open


TestTaskLife = TaskLife.TestCase
