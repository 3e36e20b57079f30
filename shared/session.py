"""One live link between an agent and a controller, without any I/O: the same code on both sides.

The shell feeds what it receives to `receive`, calls `tick` at `next_tick_at`, and writes out `take_outgoing`
after either. Times are seconds of a monotonic clock. The session numbers nothing itself: reports carry the
numbers of the agent's journal, so that they stay the same over links and restarts. It decides when they are
sent, again and for how long; drops copies and gaps; and judges from silence whether the peer is there
(nothing else does)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from releasehand.model.status import Presence

from .attempt import TERMINAL
from .frames import (
    MAX_FRAME_BYTES,
    Ack,
    AgentFrame,
    AnyFrame,
    ControllerFrame,
    Heartbeat,
    Move,
    Report,
    encode,
)

SUSPECT_AFTER_S: Final = 20.0
OFFLINE_AFTER_S: Final = 45.0
LINGER_S: Final = 0.25  # a phase change waits this long for company; an end goes at once
RESEND_AFTER_S: Final = 5.0  # unacknowledged reports are sent again
MAX_REPORT_BYTES: Final = MAX_FRAME_BYTES // 2
MAX_QUEUED_FRAMES: Final = 1_000


class QueueFullError(Exception):
    """The peer does not read: cut it off rather than let it slow others."""


@dataclass(frozen=True)
class _Pending:
    move: Move
    size_bytes: int


class Liveness:
    """Heartbeats out, silence in."""

    def __init__(self, *, now: float, interval_s: float, jitter: Callable[[], float]) -> None:
        """`jitter` returns a number in [0, 1): intervals vary by ±20 % so that a fleet does not beat in
        step."""
        self.interval_s, self._jitter = interval_s, jitter
        self.heard_at = now
        self.beat_at = now + self._interval()

    def _interval(self) -> float:
        return self.interval_s * (0.8 + 0.4 * self._jitter())

    def beat(self, now: float) -> bool:
        """True when a heartbeat is due; it then counts as sent."""
        if now < self.beat_at:
            return False
        self.beat_at = now + self._interval()
        return True

    def presence(self, now: float) -> Presence:
        silence = now - self.heard_at
        if silence >= OFFLINE_AFTER_S:
            return Presence.OFFLINE
        return Presence.SUSPECT if silence >= SUSPECT_AFTER_S else Presence.ONLINE


class Session:
    """See the module. After QueueFullError or Presence.OFFLINE the shell closes the link and drops the
    session."""

    def __init__(
        self,
        *,
        now: float,
        heartbeat_s: float,
        jitter: Callable[[], float],
        heartbeat: Callable[[], Heartbeat] = Heartbeat,
        received: int = 0,
        peer_incarnation: str = "",
    ) -> None:
        """`received` is the newest report that the controller has recorded of `peer_incarnation`, the journal
        that its agent named in `hello`; "" takes that of the first report. Those of any other are dropped."""
        self._liveness = Liveness(now=now, interval_s=heartbeat_s, jitter=jitter)
        self._heartbeat = heartbeat
        self._outgoing: deque[str] = deque()
        self._incarnation = ""
        self._pending: deque[_Pending] = deque()
        self._flush_at: float | None = None
        self._report_queued = False
        self._reported_upto = self._sent_upto = 0
        self._peer_incarnation = peer_incarnation
        self._received = received
        self._recorded = received
        self.dropped = 0
        """Reports that were copies, behind a gap or of another journal, since somebody set this."""

    # sending

    def send(self, frame: AnyFrame) -> None:
        """Queue a frame. Raises QueueFullError."""
        if len(self._outgoing) >= MAX_QUEUED_FRAMES:
            raise QueueFullError(f"{MAX_QUEUED_FRAMES} frames wait for a peer that does not read")
        self._outgoing.append(encode(frame))

    def report(self, incarnation: str, moves: list[Move], now: float) -> None:
        """Hand over moves from the journal, in the order of their numbers. Each is sent until it is
        acknowledged."""
        self._incarnation = incarnation
        for move in moves:
            if move.n <= self._reported_upto:
                continue
            self._reported_upto = move.n
            self._pending.append(_Pending(move, len(move.model_dump_json().encode())))
            due = now if move.entered in TERMINAL else now + LINGER_S
            self._flush_at = due if self._flush_at is None else min(self._flush_at, due)

    def acknowledge(self, incarnation: str, upto: int) -> None:
        """Tell the agent that its reports up to `upto` are recorded durably."""
        self._recorded = max(self._recorded, upto)
        self.send(Ack(incarnation=incarnation, upto=upto))

    def take_outgoing(self) -> list[str]:
        """Frames to write to the wire, oldest first; each is handed out once."""
        taken = list(self._outgoing)
        self._outgoing.clear()
        if self._report_queued and (moves := self._next_moves()):
            taken.append(encode(Report(incarnation=self._incarnation, moves=moves)))
            self._sent_upto = moves[-1].n
        self._report_queued = False
        return taken

    def _next_moves(self) -> list[Move]:
        """From the oldest unacknowledged report on, as many as fit into one frame; the rest follows its
        acknowledgement."""
        moves: list[Move] = []
        size_bytes = 0
        for pending in self._pending:
            size_bytes += pending.size_bytes
            if moves and size_bytes > MAX_REPORT_BYTES:
                break
            moves.append(pending.move)
        return moves

    # receiving

    def receive(self, frame: AgentFrame | ControllerFrame, now: float) -> list[AgentFrame | ControllerFrame]:
        """What the shell has to act on: copies of reports and reports behind a gap are dropped, heartbeats
        pass."""
        self._liveness.heard_at = now
        if isinstance(frame, Ack):
            self._drop_acknowledged(frame, now)
            return [frame]
        if isinstance(frame, Report):
            self._peer_incarnation = self._peer_incarnation or frame.incarnation
            if frame.incarnation != self._peer_incarnation:
                self.dropped += len(frame.moves)
                return []
            fresh = self._take_fresh(frame.moves)
            self.dropped += len(frame.moves) - len(fresh)
            if not fresh and frame.moves and frame.moves[-1].n <= self._recorded:
                self.acknowledge(frame.incarnation, self._recorded)  # the acknowledgement was lost
            return [frame.model_copy(update={"moves": fresh})] if fresh else []
        return [frame]

    def _drop_acknowledged(self, ack: Ack, now: float) -> None:
        if ack.incarnation != self._incarnation:
            return
        while self._pending and self._pending[0].move.n <= ack.upto:
            self._pending.popleft()
        if not self._pending:
            self._flush_at = None
        elif ack.upto >= self._sent_upto:
            self._flush_at = now  # the rest did not fit into the frame before

    def _take_fresh(self, moves: list[Move]) -> list[Move]:
        fresh = []
        for move in moves:
            if move.n == self._received + 1:  # or it is a copy, or something before it is missing
                self._received = move.n
                fresh.append(move)
        return fresh

    # time

    @property
    def heard_at(self) -> float:
        """When the peer last said something, or the session began."""
        return self._liveness.heard_at

    def tick(self, now: float) -> None:
        """Queue what is due by now: a heartbeat, and reports that waited long enough or went unanswered."""
        if self._liveness.beat(now):
            self.send(self._heartbeat())
        if self._flush_at is not None and now >= self._flush_at:
            # Made when it is taken: to a peer that does not read, reports must not pile up.
            self._report_queued = True
            self._flush_at = now + RESEND_AFTER_S if self._pending else None

    def presence(self, now: float) -> Presence:
        """What the peer's silence says."""
        return self._liveness.presence(now)

    def next_tick_at(self, now: float) -> float:
        """When `tick` has something to do next, or the peer's presence may change."""
        judged_at = (self._liveness.heard_at + after for after in (SUSPECT_AFTER_S, OFFLINE_AFTER_S))
        deadlines = [self._liveness.beat_at, *(at for at in judged_at if at > now)]
        if self._flush_at is not None:
            deadlines.append(self._flush_at)
        return min(deadlines)
