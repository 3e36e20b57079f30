"""The link's session: two of them joined by a list, on a clock that the test moves."""

from datetime import UTC, datetime

import pytest

from releasehand.model import Phase, Presence
from shared.attempt import TRANSITIONS, Outcome
from shared.frames import (
    MAX_FRAME_BYTES,
    MAX_LOG_TAIL_CHARS,
    Ack,
    Active,
    AttemptEnd,
    Heartbeat,
    Move,
    Progress,
    Ref,
    Report,
    decode_from_agent,
    decode_from_controller,
)
from shared.session import (
    LINGER_S,
    MAX_QUEUED_FRAMES,
    OFFLINE_AFTER_S,
    RESEND_AFTER_S,
    SUSPECT_AFTER_S,
    QueueFullError,
    Session,
)

INTERVAL_S = 1_000.0
"""Of the heartbeats where a test is about something else."""


def make_session(*, heartbeat_s: float = INTERVAL_S, jitter: float = 0.5, received: int = 0) -> Session:
    return Session(now=0, heartbeat_s=heartbeat_s, jitter=lambda: jitter, received=received)


def make_move(n: int, entered: Phase = Phase.DOWNLOADING, *, log_tail: str = "") -> Move:
    left, outcome = next((key for key, to in TRANSITIONS.items() if to is entered), (None, Outcome.OK))
    end = AttemptEnd(active=Active(), log_tail=log_tail) if entered is Phase.DONE else None
    return Move(
        instance_id="user-1",
        generation=1,
        task=1,
        attempt=1,
        n=n,
        at=datetime(2030, 1, 1, tzinfo=UTC),
        left=left,
        outcome=outcome,
        entered=entered,
        end=end,
    )


def reports(session: Session, now: float) -> list[list[int]]:
    """The numbers in each report that the session sends by `now`."""
    session.tick(now)
    frames = [decode_from_agent(text) for text in session.take_outgoing()]
    return [[move.n for move in frame.moves] for frame in frames if isinstance(frame, Report)]


def acks(session: Session) -> list[int]:
    """What the session acknowledges in what it has to send now."""
    frames = [decode_from_controller(text) for text in session.take_outgoing()]
    return [frame.upto for frame in frames if isinstance(frame, Ack)]


def hear(session: Session, *numbers: int, now: float = 1) -> list[int]:
    """The numbers that the shell gets when a report with these arrives."""
    passed = session.receive(Report(incarnation="i", moves=[make_move(n) for n in numbers]), now)
    return [move.n for frame in passed if isinstance(frame, Report) for move in frame.moves]


# reports, from the agent's side


def test_a_phase_change_waits_for_company_and_an_end_goes_at_once() -> None:
    agent = make_session()
    agent.report("i", [make_move(1)], now=10)
    assert agent.next_tick_at(10) == 10 + LINGER_S
    assert reports(agent, 10 + LINGER_S - 0.01) == []
    agent.report("i", [make_move(2)], now=10.1)
    assert reports(agent, 10 + LINGER_S) == [[1, 2]]
    agent.receive(Ack(incarnation="i", upto=2), 11)
    agent.report("i", [make_move(3, Phase.DONE)], now=12)
    assert agent.next_tick_at(12) == 12
    assert reports(agent, 12) == [[3]]


def test_an_end_takes_what_waits_with_it() -> None:
    agent = make_session()
    agent.report("i", [make_move(1)], now=10)
    agent.report("i", [make_move(2, Phase.DONE)], now=10.01)
    assert reports(agent, 10.01) == [[1, 2]]


def test_what_is_not_acknowledged_is_sent_again_until_it_is() -> None:
    agent = make_session()
    agent.report("i", [make_move(1, Phase.DONE)], now=10)
    assert reports(agent, 10) == [[1]]
    assert reports(agent, 10 + RESEND_AFTER_S - 0.01) == []
    assert reports(agent, 10 + RESEND_AFTER_S) == [[1]]
    assert reports(agent, 10 + 2 * RESEND_AFTER_S) == [[1]]
    agent.receive(Ack(incarnation="i", upto=1), 30)
    assert reports(agent, 900) == []


def test_a_report_carries_all_that_is_not_acknowledged() -> None:
    agent = make_session()
    agent.report("i", [make_move(1, Phase.DONE), make_move(2, Phase.DONE)], now=10)
    assert reports(agent, 10) == [[1, 2]]
    agent.receive(Ack(incarnation="i", upto=1), 11)
    agent.report("i", [make_move(3, Phase.DONE)], now=12)
    assert reports(agent, 12) == [[2, 3]]


def test_an_acknowledgement_of_another_incarnation_counts_for_nothing() -> None:
    agent = make_session()
    agent.report("i", [make_move(1, Phase.DONE)], now=10)
    reports(agent, 10)
    agent.receive(Ack(incarnation="before", upto=1), 11)
    assert reports(agent, 10 + RESEND_AFTER_S) == [[1]]


def test_moves_handed_over_twice_are_sent_once() -> None:
    agent = make_session()
    agent.report("i", [make_move(1), make_move(2, Phase.DONE)], now=10)
    agent.report("i", [make_move(1), make_move(2, Phase.DONE)], now=10)
    assert reports(agent, 10) == [[1, 2]]


def test_moves_handed_over_again_after_their_acknowledgement_stay_unsent() -> None:
    agent = make_session()
    agent.report("i", [make_move(1), make_move(2, Phase.DONE)], now=10)
    reports(agent, 10)
    agent.receive(Ack(incarnation="i", upto=2), 11)
    agent.report("i", [make_move(2, Phase.DONE), make_move(3, Phase.DONE)], now=12)
    assert reports(agent, 12) == [[3]]


@pytest.mark.parametrize("char", ["x", "é", "版", "😀", "\x01", '"', "\\"])
def test_a_large_backlog_is_cut_into_frames_under_the_limit(char: str) -> None:
    agent, hub = make_session(), make_session()
    count = 30
    agent.report(
        "i", [make_move(n, Phase.DONE, log_tail=char * MAX_LOG_TAIL_CHARS) for n in range(1, count + 1)], 10
    )
    delivered: list[int] = []
    frames = 0
    while len(delivered) < count and frames <= count:
        agent.tick(10)
        for text in agent.take_outgoing():
            frames += 1
            assert len(text.encode()) <= MAX_FRAME_BYTES
            for frame in hub.receive(decode_from_agent(text), 10):
                assert isinstance(frame, Report)
                delivered += [move.n for move in frame.moves]
                hub.acknowledge("i", frame.moves[-1].n)
        for text in hub.take_outgoing():
            agent.receive(decode_from_controller(text), 10)
    assert delivered == list(range(1, count + 1))
    assert frames > 1


def test_the_rest_of_a_backlog_follows_the_acknowledgement_without_waiting() -> None:
    agent = make_session()
    big = "x" * MAX_LOG_TAIL_CHARS
    agent.report("i", [make_move(n, Phase.DONE, log_tail=big) for n in range(1, 11)], now=10)
    [first] = reports(agent, 10)
    assert first == list(range(1, len(first) + 1))
    assert len(first) < 10
    agent.receive(Ack(incarnation="i", upto=len(first)), 10.5)
    assert agent.next_tick_at(10.5) == 10.5
    assert reports(agent, 10.5)[0][0] == len(first) + 1


# reports, from the controller's side


def test_a_report_is_passed_on_once_and_its_copy_changes_nothing() -> None:
    hub = make_session()
    assert hear(hub, 1, 2) == [1, 2]
    assert hear(hub, 1, 2) == []
    assert hear(hub, 1, 2, 3) == [3]


def test_what_was_recorded_over_an_earlier_link_is_a_copy() -> None:
    hub = make_session(received=5)
    assert hear(hub, 4, 5, 6) == [6]


def test_a_report_behind_a_gap_is_dropped() -> None:
    hub = make_session()
    assert hear(hub, 2, 3) == []
    assert hear(hub, 1, 2, 3) == [1, 2, 3]


def test_of_a_report_with_a_gap_inside_only_what_stands_before_it_counts() -> None:
    hub = make_session()
    assert hear(hub, 1, 3, 4) == [1]
    assert hear(hub, 2, 3, 4) == [2, 3, 4]


def test_nothing_is_acknowledged_before_the_shell_says_that_it_is_durable() -> None:
    hub = make_session()
    hear(hub, 1, 2)
    hear(hub, 1, 2)
    hub.tick(5)
    assert acks(hub) == []
    hub.acknowledge("i", 1)
    assert acks(hub) == [1]
    hear(hub, 1, 2)
    assert acks(hub) == []


def test_a_lost_acknowledgement_is_given_again_when_the_copy_comes() -> None:
    hub = make_session()
    hear(hub, 1, 2)
    hub.acknowledge("i", 2)
    assert acks(hub) == [2]
    hear(hub, 1, 2)
    assert acks(hub) == [2]


def test_a_copy_from_another_incarnation_is_never_acknowledged_unrecorded() -> None:
    hub = make_session()
    hear(hub, 1, 2)
    hub.acknowledge("i", 2)
    acks(hub)
    assert hub.receive(Report(incarnation="another", moves=[make_move(1)]), 2) == []
    assert acks(hub) == []


def test_a_report_without_moves_is_nothing() -> None:
    hub = make_session()
    assert hub.receive(Report(incarnation="i", moves=[]), 1) == []
    assert hub.take_outgoing() == []


def test_every_other_frame_is_passed_on() -> None:
    ref = Ref(instance_id="user-1", generation=1, task=1, attempt=1)
    for frame in (Heartbeat(), Progress(ref=ref, bytes_done=1), Ack(incarnation="i", upto=0)):
        assert make_session().receive(frame, 1) == [frame]


# heartbeats and silence


@pytest.mark.parametrize(("jitter", "after"), [(0.0, 8.0), (0.5, 10.0), (0.999_999, 12.0)])
def test_heartbeats_go_out_at_the_interval_with_a_fifth_of_jitter(jitter: float, after: float) -> None:
    session = make_session(heartbeat_s=10, jitter=jitter)
    assert session.next_tick_at(0) == pytest.approx(after, abs=0.001)
    session.tick(after - 0.01)
    assert session.take_outgoing() == []
    session.tick(after)
    assert len(session.take_outgoing()) == 1
    session.tick(after)
    assert session.take_outgoing() == []
    assert session.next_tick_at(after) == pytest.approx(min(2 * after, SUSPECT_AFTER_S), abs=0.001)


def test_a_heartbeat_says_what_the_shell_has_to_say() -> None:
    session = Session(now=0, heartbeat_s=10, jitter=lambda: 0, heartbeat=lambda: Heartbeat(last_n=7))
    session.tick(8)
    assert decode_from_agent(session.take_outgoing()[0]) == Heartbeat(last_n=7)


def test_after_a_long_stall_one_heartbeat_goes_out_and_not_all_that_were_missed() -> None:
    session = make_session(heartbeat_s=10)
    session.tick(500)
    assert len(session.take_outgoing()) == 1


@pytest.mark.parametrize(
    ("silence", "presence"),
    [
        (SUSPECT_AFTER_S - 0.01, Presence.ONLINE),
        (SUSPECT_AFTER_S, Presence.SUSPECT),
        (OFFLINE_AFTER_S - 0.01, Presence.SUSPECT),
        (OFFLINE_AFTER_S, Presence.OFFLINE),
    ],
)
def test_silence_alone_judges_the_peer(silence: float, presence: Presence) -> None:
    session = make_session()
    session.receive(Heartbeat(), 100)
    session.tick(100 + silence)
    assert session.presence(100 + silence) is presence


def test_suspect_is_20_seconds_and_offline_45() -> None:
    assert (SUSPECT_AFTER_S, OFFLINE_AFTER_S) == (20, 45)


def test_any_frame_is_a_sign_of_life() -> None:
    for frame in (Heartbeat(), Ack(incarnation="i", upto=1), Report(incarnation="i", moves=[make_move(9)])):
        session = make_session()
        assert session.presence(30) is Presence.SUSPECT
        session.receive(frame, 30)
        assert session.presence(31) is Presence.ONLINE


def test_sending_is_no_sign_of_the_peers_life() -> None:
    session = make_session(heartbeat_s=10)
    session.tick(44)
    assert session.presence(45) is Presence.OFFLINE


def test_the_shell_is_woken_when_the_peer_may_change() -> None:
    session = make_session()
    assert session.next_tick_at(0) == SUSPECT_AFTER_S
    assert session.next_tick_at(SUSPECT_AFTER_S) == OFFLINE_AFTER_S
    assert session.next_tick_at(OFFLINE_AFTER_S) == INTERVAL_S


# bounds


def test_a_peer_that_does_not_read_is_found_out() -> None:
    session = make_session()
    for _ in range(MAX_QUEUED_FRAMES):
        session.send(Heartbeat())
    with pytest.raises(QueueFullError):
        session.send(Heartbeat())
    assert len(session.take_outgoing()) == MAX_QUEUED_FRAMES
    session.send(Heartbeat())


def test_reports_to_a_peer_that_does_not_read_do_not_pile_up() -> None:
    """Before silence ends the link, only the newest copy of what is unacknowledged is worth keeping."""
    agent = make_session()
    agent.report("i", [make_move(n, Phase.DONE, log_tail="x" * MAX_LOG_TAIL_CHARS) for n in range(1, 20)], 0)
    for second in range(1, 46):
        agent.tick(second)
    assert sum(map(len, agent.take_outgoing())) <= 2 * MAX_FRAME_BYTES


def test_outgoing_frames_are_handed_out_once_and_in_order() -> None:
    session = make_session()
    session.acknowledge("i", 1)
    session.acknowledge("i", 2)
    assert acks(session) == [1, 2]
    assert session.take_outgoing() == []
