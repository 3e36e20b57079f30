"""Sends work to agents: woken with the names of tasks, it looks at their rows and does what `core.plan`
says."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Protocol

from controller.checkpoint import Checkpoint, pass_by
from controller.core.plan import Action, SendAgain, SendCancel, Standing, Start, Surroundings, Wait, plan
from controller.core.refusals import StoreUnavailableError
from controller.core.task import Task, TaskMove
from controller.notice import Notices
from controller.rounds import repeat
from controller.sealing import open_url
from controller.store import Changed, StaleMoveError
from shared.clock import Clock
from shared.frames import Cancel, Execute, Ref
from shared.logs import get_log
from shared.sealing import Keyring
from shared.tasks import TaskGroup

BATCH: Final = 500  # tasks in one transaction; half of what a link queues, so that one agent can have all
RETRY_SCAN_S: Final = 1.0
RETRY_OVERLAP: Final = timedelta(seconds=5)
"""How far a scan looks back behind the one before: a retry may be committed after a scan that it was due for.
What is overdue for longer belongs to an agent that is away, or is found with the missed."""
MISSED_SCAN_S: Final = 10.0
STORE_PAUSE_S: Final = 1.0

log = get_log(__name__)


class AgentLinks(Protocol):
    """The agents connected to this controller."""

    def connected(self) -> list[str]: ...

    def is_connected(self, agent_id: str) -> bool: ...

    def send(self, agent_id: str, frame: Execute | Cancel) -> bool:
        """Queue a frame; False when the agent is not connected here: the next pass looks again."""
        ...


class TaskStore(Protocol):
    """What the dispatcher reads and moves."""

    async def load_tasks(self, ids: Iterable[int]) -> list[Standing]: ...

    async def due_retries(self, since: datetime) -> list[int]: ...

    async def open_tasks(self, agent_ids: list[str]) -> list[int]: ...

    async def missed_tasks(self, agent_ids: list[str]) -> list[int]: ...

    async def move(self, task_moves: list[TaskMove]) -> Changed: ...


class Dispatcher:
    """One for each controller. A frame is sent only after its attempt is committed; a lost one is sent again
    from the row."""

    def __init__(
        self,
        store: TaskStore,
        links: AgentLinks,
        notices: Notices,
        clock: Clock,
        keyring: Keyring,
        *,
        checkpoint: Checkpoint = pass_by,
    ) -> None:
        """`keyring` opens what the store has sealed."""
        self._store, self._links, self._notices, self._clock = store, links, notices, clock
        self._keyring, self._checkpoint = keyring, checkpoint
        self._woken: dict[int, None] = {}  # ordered, each once
        self._left: set[str] = set()  # agents that came or went: their open tasks are looked at
        self._bell = asyncio.Event()
        self._retries_from = clock.now() - RETRY_OVERLAP

    def wake(self, task_ids: Iterable[int]) -> None:
        """Have these tasks looked at soon. Returns at once; a wake-up that is lost costs seconds, never
        truth."""
        self._woken.update(dict.fromkeys(task_ids))
        if self._woken:
            self._bell.set()

    def wake_agent(self, agent_id: str) -> None:
        """Have every open task of an agent looked at: it came or went."""
        self._left.add(agent_id)
        self._bell.set()

    def stop(self, dropped: Iterable[Task]) -> None:
        """Ask hosts to stop attempts of tasks that have ended without them. Once, and only where the agent is
        connected here: it asks what is wanted of it when it returns."""
        for task in dropped:
            self._links.send(task.agent_id, Cancel(ref=_ref(task)))

    async def run(self) -> None:
        """Work until cancelled."""
        async with TaskGroup() as group:
            group.create_task(self._scan(RETRY_SCAN_S, self._find_due_retries))
            group.create_task(self._scan(MISSED_SCAN_S, self._find_missed))
            while True:
                await self._bell.wait()
                self._bell.clear()
                await self._work_off()

    async def _scan(self, every_s: float, find: "_Find") -> None:
        async def look() -> None:
            self.wake(await find())

        await repeat("looking for tasks", look, self._clock, every_s=every_s, first_after_s=every_s)

    async def _find_due_retries(self) -> list[int]:
        now = self._clock.now()
        found = await self._store.due_retries(self._retries_from)
        self._retries_from = now - RETRY_OVERLAP
        return found

    async def _find_missed(self) -> list[int]:
        return await self._store.missed_tasks(self._links.connected())

    async def _work_off(self) -> None:
        while self._woken or self._left:
            agents, self._left = self._left, set()
            ids = list(islice(self._woken, BATCH))
            for task_id in ids:
                del self._woken[task_id]
            try:
                if agents:
                    self.wake(await self._store.open_tasks(sorted(agents)))
                await self._dispatch(ids)
            except StaleMoveError:
                self.wake(ids)
            except StoreUnavailableError as exc:
                log.warning("tasks could not be dispatched", reason=str(exc), tasks=len(ids))
                self._left |= agents
                self.wake(ids)
                await self._clock.sleep(STORE_PAUSE_S)
            except Exception:  # noqa: BLE001 - a bug of ours must not end the controller; the missed are found later
                log.crash("dispatch met a bug", tasks=len(ids))
                await self._clock.sleep(STORE_PAUSE_S)

    async def _dispatch(self, ids: list[int]) -> None:
        if not ids:
            return
        now = self._clock.now()
        standings = await self._store.load_tasks(ids)
        actions = [plan(standing.task, self._around(standing), now) for standing in standings]
        moves = [move for action in actions if (move := _move_of(action)) is not None]
        if moves:
            self._notices.tell(await self._store.move(moves))
        for standing, action in zip(standings, actions, strict=True):
            self._send(standing, action, now)
        self._checkpoint("dispatch:sent")

    def _around(self, standing: Standing) -> Surroundings:
        return Surroundings(
            connected=self._links.is_connected(standing.task.agent_id),
            predecessor_open=standing.predecessor_open,
            outcome_unknown=standing.outcome_unknown,
        )

    def _send(self, standing: Standing, action: Action, now: datetime) -> None:
        match action:
            case Start(move=move):
                self._execute(standing, move.after, now)
            case SendAgain(task=task):
                self._execute(standing, task, now)
            case SendCancel(task=task):
                self._links.send(task.agent_id, Cancel(ref=_ref(task)))
            case Wait():
                pass

    def _execute(self, standing: Standing, task: Task, now: datetime) -> None:
        url, url_lost = open_url(standing, self._keyring)
        self._links.send(task.agent_id, execute_frame(task, now, url, url_lost))


class _Find(Protocol):
    async def __call__(self) -> list[int]: ...


def _move_of(action: Action) -> TaskMove | None:
    match action:
        case Start(move=move) | SendAgain(move=move) | Wait(move=move):
            return move
        case SendCancel():
            return None


def _ref(task: Task) -> Ref:
    return Ref(instance_id=task.instance_id, generation=task.generation, task=task.id, attempt=task.attempt)


def execute_frame(task: Task, now: datetime, url: str, url_lost: str = "") -> Execute:
    """The command for a task's present attempt; see `open_url`."""
    return Execute(
        ref=_ref(task),
        kind=task.kind,
        operation_id=task.operation_id,
        service=task.service,
        version=task.target_version,
        url=url,
        url_lost=url_lost,
        sha256=task.package_sha256,
        source_sha256=task.source_sha256,
        seconds_left=(task.deadline_at - now).total_seconds(),
        force=task.force,
    )
