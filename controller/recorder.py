"""The only consumer of reports: drains what waits, records it together, then lets it be acknowledged."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from controller.checkpoint import Checkpoint, pass_by
from controller.core.refusals import StoreUnavailableError
from controller.notice import Notices
from controller.store import Batch, Recorded
from shared.clock import Clock
from shared.logs import get_log

MAX_WAITING: Final = 10_000  # batches; a link whose batch does not fit waits, and its agent keeps the reports
GROUP: Final = 2_000  # reports in one transaction
STORE_PAUSE_S: Final = 1.0

log = get_log(__name__)

Acknowledge = Callable[[str, int, str, int], None]
"""Called with agent, session epoch, incarnation and the number up to which reports are durable."""


class ReportStore(Protocol):
    """Where reports are recorded."""

    async def record(
        self, batches: Sequence[Batch], chance: Callable[[], float], *, refusal: str = ""
    ) -> Recorded:
        """Durable on return. With a `refusal`, everything is rejected for that reason."""
        ...


class Recorder:
    """One for each controller."""

    def __init__(
        self, store: ReportStore, notices: Notices, clock: Clock, *, checkpoint: Checkpoint = pass_by
    ) -> None:
        self._store, self._notices, self._clock, self._checkpoint = store, notices, clock, checkpoint
        self._waiting: asyncio.Queue[Batch] = asyncio.Queue(MAX_WAITING)
        self._acknowledge: Acknowledge = lambda agent_id, epoch, incarnation, upto: None
        self.dropped: Counter[str] = Counter()
        """Reports since the start that changed nothing and are no agent's fault, by why; those that are one
        are counted in the table of agents."""

    def acknowledge_by(self, acknowledge: Acknowledge) -> None:
        """From now on, what is recorded is told to `acknowledge`."""
        self._acknowledge = acknowledge

    async def submit(self, batch: Batch) -> None:
        """Queue a session's reports; waits while the queue is full, which slows that session's reading
        alone."""
        await self._waiting.put(batch)

    async def run(self) -> None:
        """Work until cancelled. What is not recorded then is sent again by its agent."""
        while True:
            group = [await self._waiting.get()]
            size = len(group[0].reports)
            while size < GROUP and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
                size += len(group[-1].reports)
            await self._record(group)

    async def _record(self, group: list[Batch], *, refusal: str = "") -> None:
        while True:
            try:
                recorded = await self._store.record(group, random.random, refusal=refusal)
            except StoreUnavailableError as exc:
                log.warning("reports could not be recorded", reason=str(exc), batches=len(group))
                await self._clock.sleep(STORE_PAUSE_S)
            except Exception as exc:  # noqa: BLE001 - a bug of ours: only the report at fault is left out
                log.crash("reports could not be applied", batches=len(group))
                if not refusal:
                    await self._record_apart(group, f"the controller met a bug ({type(exc).__name__})")
                return
            else:
                self._tell(recorded)
                return

    async def _record_apart(self, group: list[Batch], refusal: str) -> None:
        """Find the report at fault, by recording each batch and then each report alone; that one is
        rejected."""
        if len(group) > 1:
            for batch in group:
                await self._record([batch])
        elif len(group[0].reports) > 1:
            for report in group[0].reports:
                await self._record([replace(group[0], reports=[report])])
        else:
            await self._record(group, refusal=refusal)

    def _tell(self, recorded: Recorded) -> None:
        for (agent_id, epoch), (incarnation, upto) in recorded.acks.items():
            self._acknowledge(agent_id, epoch, incarnation, upto)
        self._checkpoint("record:acknowledged")
        self.dropped += recorded.dropped
        for agent_id, reason in recorded.rejected:
            log.warning("report was rejected", agent_id=agent_id, reason=reason)
        self._notices.tell(recorded.changed)
