"""What the agent decides from values: fencing, sources, moments and words."""

from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from agent.core.record import MAX_BUDGET_S, AttemptRecord, Failure, begin, order_of
from agent.core.wording import describe_broken, describe_end
from releasehand.model.codes import FailureCode
from releasehand.model.status import OperationKind, Phase
from shared.attempt import CANCELLABLE, LIVE, PAST_NO_RETURN, TERMINAL, Outcome, UnlistedMoveError
from shared.frames import MAX_MESSAGE_CHARS, Active, Execute, Kept, Ref
from shared.source import AlreadyActive, Fetch, Holding, NoSource, UseKept, plan_fetched, plan_start
from tests.fakes.clock import START
from tests.fakes.host import deploy, ref_of

NOW = Instant(boot_id="boot-1", boot_s=100.0, wall=START)
DIGEST, OTHER = "a" * 64, "b" * 64

# fencing

refs = st.builds(ref_of, st.integers(1, 4), st.integers(1, 3))


@given(refs, refs)
def test_only_what_is_newer_than_everything_accepted_runs(ref: Ref, newest: Ref) -> None:
    decision = decide_execute(ref, known=None, newest=newest, unfinished=())
    assert isinstance(decision, Accept) == (order_of(ref) > order_of(newest))
    assert isinstance(decision, RefuseStale) == (order_of(ref) <= order_of(newest))


@pytest.mark.parametrize("known", sorted(Phase))
def test_what_is_known_is_answered_whatever_came_later(known: Phase) -> None:
    decision = decide_execute(ref_of(1), known=known, newest=ref_of(9), unfinished=())
    assert decision == AnswerRecorded()


def test_the_first_command_of_all_is_accepted() -> None:
    assert decide_execute(ref_of(1), known=None, newest=None, unfinished=()) == Accept()


def test_another_task_of_the_same_generation_and_attempt_is_stale() -> None:
    other = ref_of(2).model_copy(update={"task": 99})
    assert decide_execute(other, known=None, newest=ref_of(2), unfinished=()) == RefuseStale()


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_newer_command_replaces_or_waits(phase: Phase) -> None:
    older, newer = ref_of(1), ref_of(2)
    decision = decide_execute(newer, known=None, newest=older, unfinished=[Standing(older, phase)])
    if phase in CANCELLABLE:
        assert decision == Accept(supersede=(older,))
    else:
        assert decision == Accept(behind=older)


@pytest.mark.parametrize("phase", sorted(PAST_NO_RETURN))
def test_what_only_waits_is_replaced_by_what_is_newer(phase: Phase) -> None:
    running, waiting = Standing(ref_of(1), phase), Standing(ref_of(2), Phase.QUEUED)
    decision = decide_execute(ref_of(3), known=None, newest=ref_of(2), unfinished=[running, waiting])
    assert decision == Accept(supersede=(ref_of(2),), behind=ref_of(1))


def test_a_cancel_is_decided_for_every_phase() -> None:
    assert decide_cancel(None) == RecordCancelled()
    assert {decide_cancel(phase) for phase in CANCELLABLE} == {Stop()}
    assert {decide_cancel(phase) for phase in PAST_NO_RETURN} == {LetFinish()}
    assert {decide_cancel(phase) for phase in TERMINAL} == {AnswerRecorded()}


# sources


def command(kind: OperationKind, *, url: bool, sha256: str = "", force: bool = False) -> Execute:
    changes = {"kind": kind, "sha256": sha256, "force": force, "url": "https://example.com/v1" if url else ""}
    return deploy("v1", 1).model_copy(update=changes)


def kept(good: bool | None, *, sha256: str = DIGEST, name: str = "v1-aaa", version: str = "v1") -> Kept:
    return Kept(release=name, version=version, sha256=sha256, good=good)


def holding(*releases: Kept, active: Kept | None = None, broken: bool = False) -> Holding:
    live = (
        Active(release=active.release, version=active.version, sha256=active.sha256) if active else Active()
    )
    return Holding(live, releases, broken)


ROLLBACK, DEPLOYMENT = OperationKind.ROLLBACK, OperationKind.DEPLOYMENT
GOOD, BAD, NEW = kept(True), kept(False), kept(None)
LATER = kept(True, sha256=OTHER, name="v1-bbb")


@pytest.mark.parametrize(
    ("order", "host", "plan"),
    [
        # deployments
        (command(DEPLOYMENT, url=True), holding(), Fetch()),
        (command(DEPLOYMENT, url=True), holding(GOOD, active=GOOD), Fetch()),  # who knows what the URL holds
        (command(DEPLOYMENT, url=True, sha256=DIGEST), holding(GOOD, active=GOOD), AlreadyActive(GOOD)),
        (
            command(DEPLOYMENT, url=True, sha256=DIGEST.upper()),
            holding(GOOD, active=GOOD),
            AlreadyActive(GOOD),
        ),
        (command(DEPLOYMENT, url=True, sha256=OTHER), holding(GOOD, active=GOOD), Fetch()),
        (command(DEPLOYMENT, url=True, sha256=DIGEST), holding(GOOD), UseKept(GOOD)),
        (command(DEPLOYMENT, url=True, sha256=DIGEST), holding(NEW), UseKept(NEW)),
        (command(DEPLOYMENT, url=True, sha256=DIGEST), holding(BAD), Fetch()),
        (command(DEPLOYMENT, url=True, sha256=DIGEST), holding(BAD, active=BAD), Fetch()),
        (command(DEPLOYMENT, url=True, sha256=DIGEST), holding(NEW, active=NEW), UseKept(NEW)),
        (command(DEPLOYMENT, url=True, sha256=DIGEST, force=True), holding(GOOD, active=GOOD), Fetch()),
        (command(DEPLOYMENT, url=False, sha256=DIGEST), holding(BAD), NoSource()),
        (
            command(DEPLOYMENT, url=True, sha256=DIGEST),
            holding(GOOD, active=GOOD, broken=True),
            UseKept(GOOD),
        ),
        # rollbacks
        (command(ROLLBACK, url=False), holding(), NoSource()),
        (command(ROLLBACK, url=True), holding(), Fetch()),
        (command(ROLLBACK, url=True), holding(GOOD), UseKept(GOOD)),
        (command(ROLLBACK, url=True), holding(GOOD, LATER), UseKept(LATER)),
        (command(ROLLBACK, url=True, sha256=DIGEST), holding(GOOD, LATER), UseKept(GOOD)),
        (command(ROLLBACK, url=True), holding(NEW), Fetch()),
        (command(ROLLBACK, url=False), holding(BAD), NoSource()),
        (command(ROLLBACK, url=False), holding(GOOD, active=GOOD), AlreadyActive(GOOD)),
        (command(ROLLBACK, url=False, sha256=OTHER), holding(GOOD, LATER, active=GOOD), UseKept(LATER)),
        (command(ROLLBACK, url=True, force=True), holding(GOOD, active=GOOD), Fetch()),
        (command(ROLLBACK, url=False, force=True), holding(GOOD, active=GOOD), UseKept(GOOD)),
        (command(ROLLBACK, url=False), holding(GOOD, active=GOOD, broken=True), UseKept(GOOD)),
    ],
)
def test_the_source_follows_from_the_command_and_the_host(
    order: Execute, host: Holding, plan: object
) -> None:
    assert plan_start(order, host) == plan


@pytest.mark.parametrize(
    ("force", "host", "plan"),
    [
        (False, holding(), Fetch()),
        (False, holding(GOOD, active=GOOD), AlreadyActive(GOOD)),
        (False, holding(GOOD), UseKept(GOOD)),
        (False, holding(NEW), UseKept(NEW)),
        (False, holding(BAD), Fetch()),
        (False, holding(LATER, active=LATER), Fetch()),
        (False, holding(GOOD, active=GOOD, broken=True), UseKept(GOOD)),
        (True, holding(GOOD, active=GOOD), Fetch()),
    ],
)
def test_the_source_is_decided_again_when_the_digest_is_known(
    force: bool, host: Holding, plan: object
) -> None:
    assert plan_fetched(command(DEPLOYMENT, url=True, force=force), DIGEST, host) == plan


@given(
    st.sampled_from(sorted(OperationKind)),
    st.booleans(),
    st.sampled_from(["", DIGEST, OTHER]),
    st.booleans(),
    st.lists(st.sampled_from([GOOD, BAD, NEW, LATER]), unique_by=lambda one: one.release),
    st.booleans(),
)
def test_no_plan_uses_a_bad_release_or_a_source_that_is_not_there(
    kind: OperationKind, url: bool, sha256: str, force: bool, releases: list[Kept], broken: bool
) -> None:
    order = command(kind, url=url, sha256=sha256, force=force)
    for active in [None, *releases]:
        match plan_start(order, holding(*releases, active=active, broken=broken)):
            case AlreadyActive(release):
                assert release == active
                assert release.good
                assert not force
                assert not broken
            case UseKept(release):
                assert release in releases
                assert release.good is not False
                assert not sha256 or release.sha256 == sha256
            case Fetch():
                assert url
            case NoSource():
                assert not url


# records


@pytest.mark.parametrize(("phase", "outcome"), sorted(product(TERMINAL, Outcome)))
def test_an_ended_attempt_moves_no_more(phase: Phase, outcome: Outcome) -> None:
    record = begin(deploy("v1", 1), NOW).model_copy(update={"phase": phase})
    with pytest.raises(UnlistedMoveError):
        record.moved(outcome, NOW)


def test_a_move_tells_what_was_left_and_how_long_it_took() -> None:
    move = begin(deploy("v1", 1), NOW).moved(Outcome.OK, NOW.after(2.5)).report()
    assert (move.left, move.outcome, move.entered) == (Phase.QUEUED, Outcome.OK, Phase.DOWNLOADING)
    assert move.duration_s == 2.5


def test_a_clock_that_steps_back_gives_no_negative_duration() -> None:
    earlier = Instant(boot_id="boot-2", boot_s=1.0, wall=START - timedelta(days=1))
    assert begin(deploy("v1", 1), NOW).moved(Outcome.OK, earlier).duration_s == 0


@pytest.mark.parametrize(
    ("seconds_left", "budget_s"),
    [(30.0, 30.0), (-5.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (1e300, MAX_BUDGET_S)],
)
def test_a_budget_is_always_a_number_of_seconds(seconds_left: float, budget_s: float) -> None:
    record = begin(deploy("v1", 1, seconds_left=seconds_left), NOW)
    assert NOW.seconds_to(record.deadline) == budget_s


@given(st.floats(-1e9, 1e9))
def test_a_moment_keeps_its_distance_within_a_boot_and_across_one(seconds: float) -> None:
    later = NOW.after(seconds)
    rebooted = Instant(boot_id="boot-2", boot_s=3.0, wall=START)
    assert NOW.seconds_to(later) == pytest.approx(seconds, abs=1e-5)
    assert rebooted.seconds_to(later) == pytest.approx(seconds, abs=1e-5)


def test_a_record_survives_the_journal() -> None:
    record = begin(deploy("v1", 1), NOW, starts=2).moved(Outcome.OK, NOW)
    assert AttemptRecord.model_validate_json(record.model_dump_json()) == record


# words


def ended(phase: Phase, *, left: Phase, message: str = "it is sick") -> AttemptRecord:
    failure = (
        None
        if phase in {Phase.DONE, Phase.CANCELLED}
        else Failure(code=FailureCode.CHECK_FAILED, message=message)
    )
    return begin(deploy("v2", 2), NOW).model_copy(update={"phase": phase, "left": left, "failure": failure})


LIVE_V1 = Active(release="v1-aaa", version="v1")


@pytest.mark.parametrize(
    ("record", "active", "text"),
    [
        (ended(Phase.DONE, left=Phase.CHECKING), LIVE_V1, "v2 is live"),
        (
            ended(Phase.DONE, left=Phase.QUEUED),
            LIVE_V1,
            "v2 was live and good already; nothing was restarted",
        ),
        (ended(Phase.FAILED, left=Phase.DOWNLOADING), LIVE_V1, "it is sick; v1 is still live"),
        (ended(Phase.FAILED, left=Phase.DOWNLOADING), Active(), "it is sick; nothing is live"),
        (ended(Phase.REVERTED, left=Phase.REVERTING), LIVE_V1, "it is sick; v1 is live again"),
        (
            ended(Phase.CANCELLED, left=Phase.QUEUED),
            LIVE_V1,
            "cancelled before anything was changed; v1 is still live",
        ),
        (
            ended(Phase.BROKEN, left=Phase.REVERTING),
            LIVE_V1,
            "it is sick; a person must look at this host; v1 is still live",
        ),
    ],
)
def test_an_end_says_what_why_and_what_now(record: AttemptRecord, active: Active, text: str) -> None:
    assert describe_end(record, active, "") == text


def test_an_end_never_guesses_what_is_live() -> None:
    text = describe_end(ended(Phase.FAILED, left=Phase.STAGED), Active(), "cannot use /srv: it is gone")
    assert text == "it is sick; what is live cannot be told: cannot use /srv: it is gone"


def test_a_long_message_keeps_both_of_its_ends() -> None:
    record = ended(Phase.REVERTED, left=Phase.REVERTING, message="begin" + "x" * 10_000)
    text = describe_end(record, LIVE_V1, "")
    assert len(text) <= MAX_MESSAGE_CHARS
    assert text.startswith("begin")
    assert text.endswith("v1 is live again")


def test_a_broken_instance_tells_both_failures() -> None:
    cause = Failure(code=FailureCode.CHECK_FAILED, message="v2 is sick")
    broken = describe_broken(cause, Failure(code=FailureCode.ACTIVATION_FAILED, message="v1 does not start"))
    assert broken.code is FailureCode.REVERT_FAILED
    assert broken.message == "v2 is sick; going back to the previous release failed too: v1 does not start"
