"""A bug met by one report leaves everybody's other reports recorded, and that one rejected."""

import asyncio
from collections.abc import Callable, Sequence

from controller.bulletin import Bulletin
from controller.notice import Notices
from controller.recorder import Recorder
from controller.store import Batch, Recorded
from releasehand.model import Phase
from shared.attempt import Outcome
from shared.frames import Move
from tests.fakes.clock import START, FakeClock

AT_FAULT = 2


class Store:
    """Records what it is given, except together with the report at fault."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, int]] = []
        self.rejected: list[tuple[str, int, str]] = []

    async def record(
        self, batches: Sequence[Batch], chance: Callable[[], float], *, refusal: str = ""
    ) -> Recorded:
        told = [(batch.agent_id, report.n) for batch in batches for report in batch.reports]
        if refusal:
            self.rejected += [(*one, refusal) for one in told]
        elif ("a", AT_FAULT) in told:
            raise LookupError("a bug")
        else:
            self.recorded += told
        return Recorded({(batch.agent_id, 1): ("i", batch.reports[-1].n) for batch in batches})


def batch(agent_id: str, *numbers: int) -> Batch:
    moves = [
        Move(
            instance_id="one",
            generation=1,
            task=1,
            attempt=1,
            n=n,
            at=START,
            left=None,
            outcome=Outcome.OK,
            entered=Phase.QUEUED,
        )
        for n in numbers
    ]
    return Batch(agent_id, 1, "i", moves)


async def test_only_the_report_at_fault_is_rejected_and_all_are_acknowledged() -> None:
    store, acked = Store(), dict[str, int]()
    done = asyncio.Event()
    recorder = Recorder(store, Notices(Bulletin()), FakeClock())

    def acknowledge(agent_id: str, epoch: int, incarnation: str, upto: int) -> None:
        acked[agent_id] = max(upto, acked.get(agent_id, 0))
        if acked == {"a": 3, "b": 1}:
            done.set()

    recorder.acknowledge_by(acknowledge)
    await recorder.submit(batch("a", 1, 2, 3))
    await recorder.submit(batch("b", 1))
    work = asyncio.create_task(recorder.run())
    async with asyncio.timeout(10):
        await done.wait()
    work.cancel()
    assert sorted(store.recorded) == [("a", 1), ("a", 3), ("b", 1)]
    assert store.rejected == [("a", AT_FAULT, "the controller met a bug (LookupError)")]
