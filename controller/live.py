"""What the links see between two writes to the tables: heartbeats, presence and bytes.

The newest word of each agent wins; losing all of it costs a few seconds of freshness, never truth."""

from dataclasses import dataclass, field
from datetime import datetime

from releasehand.model import Presence
from shared.frames import Progress

MAX_PROGRESS = 50_000
MAX_NUMBER = 2**62  # no table holds twice as much


@dataclass(slots=True)
class Seen:
    """What was seen since the last write."""

    heartbeats: dict[str, datetime] = field(default_factory=dict)
    presence: dict[str, tuple[int, Presence]] = field(default_factory=dict)
    progress: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.heartbeats or self.presence or self.progress)


class Live:
    """The controller's live state. For the event loop alone."""

    def __init__(self) -> None:
        self._seen = Seen()

    def heard(self, agent_id: str, at: datetime) -> None:
        """An agent has sent something."""
        self._seen.heartbeats[agent_id] = at

    def judged(self, agent_id: str, epoch: int, presence: Presence) -> None:
        """The session with that epoch finds its agent in another presence."""
        self._seen.presence[agent_id] = (epoch, presence)

    def progressed(self, progress: Progress) -> None:
        """An attempt has come further; what does not fit is dropped, for more will come."""
        ref = progress.ref
        if max(ref.task, ref.attempt, progress.bytes_done, progress.bytes_total) > MAX_NUMBER:
            return  # no table holds it
        if ref.task in self._seen.progress or len(self._seen.progress) < MAX_PROGRESS:
            self._seen.progress[ref.task] = (ref.task, ref.attempt, progress.bytes_done, progress.bytes_total)

    def put_back(self, seen: Seen) -> None:
        """What was taken and could not be written; what was seen since goes before it."""
        newer, self._seen = self._seen, seen
        self._seen.heartbeats |= newer.heartbeats
        self._seen.presence |= newer.presence
        self._seen.progress |= newer.progress

    def take(self) -> Seen:
        """What was seen since the last call; it is then the caller's to write."""
        seen, self._seen = self._seen, Seen()
        return seen
