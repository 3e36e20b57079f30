"""Two sessions over a wire that loses, doubles, reorders and delays, on a clock that only moves on."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from releasehand.model import Phase
from shared.frames import Ack, Heartbeat, Report, decode_from_agent, decode_from_controller
from shared.session import OFFLINE_AFTER_S, RESEND_AFTER_S, Session
from tests.unit.test_session import make_move

INCARNATION = "journal-1"
HEARTBEAT_S = 10.0


class Wire(RuleBasedStateMachine):
    """An agent's shell with its outbox, and a controller's shell that records when it gets round to it."""

    @initialize(earlier=st.integers(0, 3), jitter=st.floats(0, 1, exclude_max=True))
    def connect(self, earlier: int, jitter: float) -> None:
        """`earlier` reports were recorded over a link before this one."""
        self.now = 0.0
        self.journaled = earlier  # the newest number in the agent's journal
        self.recorded = earlier  # durable in the controller's tables
        self.delivered = list(range(1, earlier + 1))  # what the controller's shell was handed, in order
        self.acked = 0  # what the agent's shell was told
        self.to_hub: list[str] = []
        self.to_agent: list[str] = []
        self.agent = Session(now=0, heartbeat_s=HEARTBEAT_S, jitter=lambda: jitter)
        self.hub = Session(now=0, heartbeat_s=HEARTBEAT_S, jitter=lambda: jitter, received=earlier)

    def pump(self) -> None:
        """Both shells do what is due and put what is outgoing on the wire."""
        for session, wire in ((self.agent, self.to_hub), (self.hub, self.to_agent)):
            session.tick(self.now)
            assert session.next_tick_at(self.now) > self.now
            wire.extend(session.take_outgoing())

    @rule(entered=st.sampled_from([Phase.DOWNLOADING, Phase.STAGED, Phase.DONE]), count=st.integers(1, 4))
    def journal(self, entered: Phase, count: int) -> None:
        numbers = range(self.journaled + 1, self.journaled + count + 1)
        self.journaled += count
        self.agent.report(INCARNATION, [make_move(n, entered) for n in numbers], self.now)

    @rule(seconds=st.sampled_from([0, 0.1, 0.25, 1, 5, 12]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.pump()

    @rule(pick=st.integers(0, 20), keep=st.booleans())
    def deliver_to_hub(self, pick: int, keep: bool) -> None:
        """Any frame under way arrives next; one that is kept will arrive again."""
        if self.to_hub:
            index = pick % len(self.to_hub)
            text = self.to_hub[index] if keep else self.to_hub.pop(index)
            self.hear_at_hub(text)

    @rule(pick=st.integers(0, 20), keep=st.booleans())
    def deliver_to_agent(self, pick: int, keep: bool) -> None:
        if self.to_agent:
            index = pick % len(self.to_agent)
            text = self.to_agent[index] if keep else self.to_agent.pop(index)
            self.hear_at_agent(text)

    @rule(pick=st.integers(0, 20))
    def lose(self, pick: int) -> None:
        for wire in (self.to_hub, self.to_agent):
            if wire:
                wire.pop(pick % len(wire))

    @rule(upto=st.integers(1, 10))
    def record(self, upto: int) -> None:
        """The recorder commits a part of what it was handed, then acknowledges it."""
        self.recorded = min(self.recorded + upto, len(self.delivered))
        if self.recorded:
            self.hub.acknowledge(INCARNATION, self.recorded)

    def hear_at_hub(self, text: str) -> None:
        for frame in self.hub.receive(decode_from_agent(text), self.now):
            assert isinstance(frame, Report | Heartbeat)
            if isinstance(frame, Report):
                assert frame.moves
                self.delivered += [move.n for move in frame.moves]

    def hear_at_agent(self, text: str) -> None:
        for frame in self.agent.receive(decode_from_controller(text), self.now):
            assert isinstance(frame, Ack | Heartbeat)
            if isinstance(frame, Ack):
                self.acked = max(self.acked, frame.upto)

    @invariant()
    def every_report_is_delivered_once_and_in_order(self) -> None:
        assert self.delivered == list(range(1, len(self.delivered) + 1))

    @invariant()
    def nothing_is_acknowledged_that_is_not_durable(self) -> None:
        acks = [frame for frame in map(decode_from_controller, self.to_agent) if isinstance(frame, Ack)]
        assert all(ack.upto <= self.recorded for ack in acks)
        assert self.acked <= self.recorded

    def teardown(self) -> None:
        """On a good wire everything arrives and is acknowledged, and then the link is quiet."""
        if not hasattr(self, "now"):
            return
        self.to_hub.clear()
        self.to_agent.clear()
        for _ in range(4):
            self.now += RESEND_AFTER_S
            self.pump()
            while self.to_hub or self.to_agent:
                for text in self.to_hub:
                    self.hear_at_hub(text)
                self.to_hub.clear()
                self.record(len(self.delivered))
                self.to_agent += self.hub.take_outgoing()
                for text in self.to_agent:
                    self.hear_at_agent(text)
                self.to_agent.clear()
                self.to_hub += self.agent.take_outgoing()
        assert self.delivered == list(range(1, self.journaled + 1))
        assert self.recorded == self.journaled
        assert self.acked == self.journaled
        self.agent.tick(self.now + OFFLINE_AFTER_S)
        quiet = [decode_from_agent(text) for text in self.agent.take_outgoing()]
        assert not [frame for frame in quiet if isinstance(frame, Report)]


TestWire = Wire.TestCase
